import type { Options, Realtime } from "./realtime.js";

export interface BindOptions extends Omit<Options, "channels"> {
  /** "/" if not given. */
  url?: string | URL;
  /** Which elements: "[data-sse-channels]". */
  selector?: string;
  /** "data-sse-channels" and "data-sse-events". */
  channelAttr?: string;
  eventAttr?: string;
  /** What the names of DOM events begin with: "sse." */
  eventPrefix?: string;
  /** Whether messages are JSON. */
  type?: "json" | "text";
  root?: ParentNode;
}

/** Connect for all elements that ask for channels. */
export function bind(options?: BindOptions): Realtime;
