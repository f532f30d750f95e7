/** What a backend says about itself once it runs. */
export interface Running {
  /** TensorFlow.js's name of the backend. */
  backend: string;
  /** The device that computes. */
  device: string;
  /** The library that computes, and its version. */
  version: string;
  threads: number;
}
