/** Pictures in and out of a pipeline, like diffusers' VideoProcessor. */
import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { Clip, type Size } from "../video/clip.js";
import { resizeLanczos } from "./lanczos.js";

/**
 * A picture: a clip, whose first frame is taken, or a tensor [3, H, W] or [B, 3, H, W] in [0, 1]. A tensor with
 * values below 0 counts as being in [-1, 1] already.
 */
export type ImageInput = Clip | tf.Tensor3D | tf.Tensor4D | readonly (Clip | tf.Tensor3D | tf.Tensor4D)[];

/**
 * Pictures as the VAE takes them, resized if they have another size: clips with Pillow's Lanczos filter, tensors
 * by nearest neighbour, as diffusers does.
 *
 * @returns [B, 3, H, W] in [-1, 1]
 * @throws InputError for an empty list or a tensor of another shape.
 */
export function preprocessImage(image: ImageInput, size: Size): tf.Tensor4D {
  const list = Array.isArray(image) ? (image as readonly (Clip | tf.Tensor)[]) : [image as Clip | tf.Tensor];
  if (list.length === 0) throw new InputError("image: expected at least one picture, found an empty list");
  return tf.tidy(() =>
    tf.concat4d(
      list.map((one) => (one instanceof Clip ? fromClip(one, size) : fromTensor(one, size))),
      0,
    ),
  );
}

function fromClip(clip: Clip, size: Size): tf.Tensor4D {
  const data = resizeLanczos(clip.frame(0), clip, size);
  const frame = new Clip({ data, height: size.height, width: size.width, fps: clip.fps });
  return tf.squeeze(frame.toTensor(), [2]);
}

function fromTensor(image: tf.Tensor, size: Size): tf.Tensor4D {
  const batched = (image.rank === 3 ? tf.expandDims(image, 0) : image) as tf.Tensor4D;
  if (batched.rank !== 4 || batched.shape[1] !== 3) {
    throw new InputError(`image: expected [3, H, W] or [B, 3, H, W], found [${image.shape}]`);
  }
  const [, , height, width] = batched.shape;
  const resized =
    height === size.height && width === size.width
      ? batched
      : tf.transpose(
          tf.image.resizeNearestNeighbor(tf.transpose(batched, [0, 2, 3, 1]) as tf.Tensor4D, [
            size.height,
            size.width,
          ]),
          [0, 3, 1, 2],
        );
  const centred = tf.min(resized).dataSync()[0]! < 0;
  return centred ? tf.clone(resized) : tf.sub(tf.mul(resized, 2), 1);
}

/** The VAE's output [B, 3, F, H, W] in [-1, 1] as [B, F, 3, H, W] in [0, 1], clamped. */
export function postprocessVideo(video: tf.Tensor5D): tf.Tensor5D {
  return tf.tidy(() =>
    tf.transpose(tf.clipByValue(tf.add(tf.mul(video, 0.5), 0.5), 0, 1), [0, 2, 1, 3, 4]),
  ) as tf.Tensor5D;
}
