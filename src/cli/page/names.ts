/** What is put before every `id` and `name` in a notebook's text, so that none is one of the page's or a global of JavaScript's. */
export const PREFIX = "user-content-";
