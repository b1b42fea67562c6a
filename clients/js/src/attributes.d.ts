import type { Options, Realtime } from "./realtime.js";

export interface BindOptions extends Omit<Options, "channels"> {
  /** The URL of the server; "/" if not given. */
  url?: string | URL;
  /** Selects the elements; default "[data-sse-channels]". */
  selector?: string;
  /** Names of the attributes; default "data-sse-channels" and "data-sse-events". */
  channelAttr?: string;
  eventAttr?: string;
  /** Prefix of the names of DOM events; default "sse." */
  eventPrefix?: string;
  /** Whether messages are parsed as JSON. */
  type?: "json" | "text";
  root?: ParentNode;
}

/** Connects for all elements with channels. */
export function bind(options?: BindOptions): Realtime;
