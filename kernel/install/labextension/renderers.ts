import controls from "./controls-renderer.js";
import plotly from "./plotly-renderer.js";
import type { SharedScope } from "./shared.js";

/** Every MIME type that the extension draws. */
export default async function renderers(scope: SharedScope) {
  return [...(await plotly(scope)), ...(await controls(scope))];
}
