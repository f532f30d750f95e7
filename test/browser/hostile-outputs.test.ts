import { describe } from "node:test";
import { hostileOutputs } from "./hostile.js";
import { testPages } from "./pages.js";

describe("a page runs and fetches nothing of a notebook's outputs and metadata", () =>
  testPages(hostileOutputs));
