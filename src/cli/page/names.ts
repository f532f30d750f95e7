/** The prefix of every `id` and `name` in a notebook's text, so that none clashes with the page's or with JavaScript's globals. */
export const PREFIX = "user-content-";
