import { describe } from "node:test";
import { hostileTexts } from "./hostile.js";
import { testPages } from "./pages.js";

describe("a page runs and fetches nothing of a notebook's text", () => testPages(hostileTexts));
