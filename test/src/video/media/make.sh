#!/bin/sh
# Makes the clips beside this file, and expected.json: what ffmpeg makes of them. Needs ffmpeg (5.1 was used) and Python.
set -eu
cd "$(dirname "$0")"
source="-f lavfi -i testsrc2=s=96x64:r=10:d=0.3"
long="-f lavfi -i testsrc2=s=96x64:r=30:d=1.6"
make() { target=$1; shift; ffmpeg -v error -y "$@" -fflags +bitexact -flags:v +bitexact "$target" 2>&1 | grep -v '^x265' || true; }
quiet="-x265-params log-level=error"

for pixels in yuv420p10le yuv422p yuv422p10le yuv444p yuv444p10le gray; do
  make avc-$pixels.mp4 $source -c:v libx264 -qp 22 -pix_fmt $pixels
done
make avc-rgb.mp4 $source -c:v libx264rgb -qp 18 -pix_fmt rgb24
for matrix in bt709 bt470bg bt2020nc smpte240m fcc; do
  for range in tv pc; do
    make avc-$matrix-$range.mp4 $source -vf scale=out_color_matrix=$matrix:out_range=$range \
      -colorspace $matrix -color_range $range -c:v libx264 -qp 18 -pix_fmt yuv420p
  done
done
for pixels in yuv422p yuv444p; do
  make avc-bt709-pc-$pixels.mp4 $source -vf scale=out_color_matrix=bt709:out_range=pc \
    -colorspace bt709 -color_range pc -c:v libx264 -qp 18 -pix_fmt $pixels
done
make hevc-yuv422p12le-bt2020.mp4 $source -vf scale=out_color_matrix=bt2020nc -colorspace bt2020nc \
  -c:v libx265 $quiet -qp 18 -pix_fmt yuv422p12le
make hevc-gray.mp4 $source -c:v libx265 $quiet -qp 18 -pix_fmt gray
make hevc-rgb.mp4 $source -c:v libx265 $quiet -qp 18 -pix_fmt gbrp
make vp9-yuv444p10le.webm $source -c:v libvpx-vp9 -crf 18 -b:v 0 -pix_fmt yuv444p10le
make vp9-yuv440p.webm $source -c:v libvpx-vp9 -crf 18 -b:v 0 -pix_fmt yuv440p
make vp9-alpha.webm $source -vf "format=yuva420p,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*X/W'" -c:v libvpx-vp9 -crf 18 -b:v 0 -pix_fmt yuva420p
make av1-yuv444p.mp4 $source -c:v libaom-av1 -crf 18 -cpu-used 8 -pix_fmt yuv444p
for transfer in smpte2084 arib-std-b67; do
  make hdr-$transfer.mp4 $source -color_primaries bt2020 -color_trc $transfer -colorspace bt2020nc \
    -c:v libx265 -x265-params log-level=error:colorprim=bt2020:transfer=$transfer:colormatrix=bt2020nc -qp 18 -pix_fmt yuv420p10le
done
for aspect in 4/3 3/4; do
  make aspect-${aspect%/*}-${aspect#*/}.mp4 $source -vf setsar=$aspect -c:v libx264 -qp 24 -pix_fmt yuv420p
done
make aspect-4-3.webm $source -vf setsar=4/3 -c:v libvpx-vp9 -crf 24 -b:v 0 -pix_fmt yuv420p

make whole-avc.mp4 $long -c:v libx264 -crf 28 -g 250 -pix_fmt yuv420p
make whole-hevc.mp4 $long -c:v libx265 -x265-params log-level=error:open-gop=1:keyint=16:bframes=3:scenecut=0 -crf 28 -pix_fmt yuv420p
for codec in avc hevc; do
  for container in mp4 mkv; do
    make cut-$codec.$container -ss 0.7 -i whole-$codec.mp4 -t 0.61 -c copy
  done
done
make whole-avc.mpegts -i whole-avc.mp4 -c copy -f mpegts
make cut-hevc.mpegts -ss 0.7 -i whole-hevc.mp4 -t 0.61 -c copy -f mpegts
for pass in 1 2; do
  make hidden-vp8.webm $long -c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -b:v 60k -deadline good -pass $pass -passlogfile /tmp/vp8-passes
done
make whole-vp9.webm $long -c:v libvpx-vp9 -crf 40 -b:v 0

make avc-interlaced.mpegts $source -c:v libx264 -qp 22 -flags +ildct+ilme -x264opts tff=1 -pix_fmt yuv420p -f mpegts
make avc-pc-yuv444p.mpegts -i avc-bt709-pc-yuv444p.mp4 -c copy -f mpegts
make foreign-mpeg2.mpegts $source -c:v mpeg2video -q:v 8 -f mpegts
make foreign.avif $source -c:v libaom-av1 -crf 30 -cpu-used 8 -pix_fmt yuv420p -f avif
make foreign-mjpeg.avi $source -c:v mjpeg -q:v 5
make foreign-prores.mov $source -c:v prores_ks -profile:v 0 -qscale:v 20
make foreign-mpeg4.mp4 $source -c:v mpeg4 -q:v 5
make foreign-h263.3gp -f lavfi -i testsrc2=s=128x96:r=10:d=0.3 -c:v h263 -q:v 5
make foreign.apng $source -c:v apng -plays 0 -f apng
make foreign.bmp $source -frames:v 1 -vf scale=24:16 -pix_fmt bgr24

python3 - <<'PYTHON'
import glob, json, subprocess
expected = {}
for name in sorted(glob.glob("*.*")):
    if name.startswith("hdr-") or name.split(".")[-1] in ("sh", "json"):
        continue
    command = ["ffmpeg", "-v", "quiet", "-i", name, "-map", "0:v:0", "-sws_flags", "accurate_rnd+full_chroma_int+bitexact"]
    size = subprocess.run(["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0:nk=1", name],
                          capture_output=True, text=True).stdout.split()[0].strip(",").split(",")
    width, height = int(size[0]), int(size[1])
    raw = subprocess.run([*command, "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True).stdout
    count, rest = divmod(len(raw), width * height * 3)
    assert rest == 0 and count > 0, name
    def blocks(frame):
        data = raw[frame * width * height * 3 :]
        means = []
        for by in range(4):
            for bx in range(4):
                for channel in range(3):
                    values = [data[3 * (y * width + x) + channel]
                              for y in range(by * height // 4, (by + 1) * height // 4)
                              for x in range(bx * width // 4, (bx + 1) * width // 4)]
                    means.append(round(sum(values) / len(values), 1))
        return means
    expected[name] = {"frames": count, "width": width, "height": height, "first": blocks(0), "last": blocks(count - 1)}
with open("expected.json", "w") as out:
    json.dump(expected, out)
PYTHON
