/** A message, as published. */
export interface Message {
  /** Its position: compare for equality only. */
  readonly id: string;
  readonly channel: string;
  /** Its event type; "message" if it was published without. */
  readonly event: string;
  /** Text; or bytes, if they are not UTF-8. */
  readonly data: string | Uint8Array;
}

/** Messages are missing: the server has forgotten what came up to `position`. */
export interface Gap {
  readonly position: string;
  readonly channels: readonly string[];
}

export type TransportName = "sse" | "websocket" | "poll";

/**
 * `waiting`: between two attempts. `refused`: the server said no, and another attempt would
 * not change that. `closed`: by `close()`.
 */
export type StateName = "connecting" | "open" | "waiting" | "refused" | "closed";

export interface State {
  readonly state: StateName;
  /** The leading tab's. */
  readonly transport: TransportName | "";
}

/** An answer of 4xx that another attempt would not change. */
export class Refused extends Error {
  constructor(status: number, reason: string);
  readonly status: number;
  readonly reason: string;
}

/** From where a channel begins; without either, now. */
export interface Beginning {
  /** A position to go on from, an age such as "10m", or "all". */
  since?: string;
  /** How many of the last messages. */
  history?: number;
}

export interface Options extends Beginning {
  channels?: readonly string[];
  /**
   * "auto": server-sent events, a websocket, long-polling, the first that gets through.
   * "publish": the websocket comes first. Or a list of your own.
   */
  transport?: "auto" | "publish" | TransportName | readonly TransportName[];
  /**
   * Sent as `Authorization: Bearer`, and by a websocket as the key to publish with; a function
   * is called again when it was not taken (401, 403).
   */
  token?: string | (() => string | Promise<string>);
  /** As of `fetch`. */
  credentials?: RequestCredentials;
  /** One connection for all tabs of this origin; a string keeps apart what differs. */
  share?: boolean | string;
  /** Ms until bytes must come, or another transport is tried; without those of `token`. */
  patience?: number;
  /** Ms of silence after which a stream counts as dead; over twice the server's heartbeat. */
  silence?: number;
  /** Where the server has its routes, relative to the URL: "poll", "ws", "publish". */
  pollUrl?: string;
  websocketUrl?: string;
  publishUrl?: string;
}

export interface Publication {
  /** The event type. */
  event?: string;
  /** The idempotency key; a random one if not given. The same again is the same message. */
  key?: string;
}

export interface Realtime {
  readonly state: StateName;
  readonly transport: TransportName | "";
  readonly channels: readonly string[];
  /** Up to where everything came; `since` for another time. */
  readonly position: string | undefined;
  /** Returns what takes the listener away again. */
  on(type: "message", listener: (message: Message) => void): () => void;
  on(type: "gap", listener: (gap: Gap) => void): () => void;
  on(type: "state", listener: (state: State) => void): () => void;
  on(type: "error", listener: (error: Refused) => void): () => void;
  /** Resolves when what was missed has come, or after the `error` if it is refused. */
  subscribe(channels: string | readonly string[], beginning?: Beginning): Promise<void>;
  unsubscribe(channels: string | readonly string[]): void;
  /** Resolves to the message's position; rejects with the `status` if it is refused. */
  publish(channel: string, data: string | Uint8Array, how?: Publication): Promise<string>;
  close(): void;
}

/** Connect to the streams at `url`, such as "/". */
export function connect(url: string | URL, options?: Options): Realtime;
