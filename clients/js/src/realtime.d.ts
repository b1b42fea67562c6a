/** A message, as published. */
export interface Message {
  /** The position: compare it for equality only. */
  readonly id: string;
  readonly channel: string;
  /** The event type; "message" if it was published without one. */
  readonly event: string;
  /** Text, or bytes if they are not UTF-8. */
  readonly data: string | Uint8Array;
}

/** Messages are missing: the server no longer has some of those up to `position`. */
export interface Gap {
  readonly position: string;
  readonly channels: readonly string[];
}

export type TransportName = "sse" | "websocket" | "poll";

/**
 * `waiting`: between two attempts. `refused`: the server refused the connection, and another
 * attempt would not help. `closed`: by `close()`.
 */
export type StateName = "connecting" | "open" | "waiting" | "refused" | "closed";

export interface State {
  readonly state: StateName;
  /** The transport of the leading tab. */
  readonly transport: TransportName | "";
}

/** A response of 4xx that another attempt would not change. */
export class Refused extends Error {
  constructor(status: number, reason: string);
  readonly status: number;
  readonly reason: string;
}

/** Where a channel starts; without either field, with the next message. */
export interface Beginning {
  /** A position to resume from, an age such as "10m", or "all". */
  since?: string;
  /** Number of last messages to replay. */
  history?: number;
}

export interface Options extends Beginning {
  channels?: readonly string[];
  /**
   * "auto": the first that works of server-sent events, websocket and long polling.
   * "publish": the websocket is tried first. Or a list of your own.
   */
  transport?: "auto" | "publish" | TransportName | readonly TransportName[];
  /**
   * Sent as `Authorization: Bearer`, and by a websocket as the publish key. A function is
   * called again when its token was refused (401, 403).
   */
  token?: string | (() => string | Promise<string>);
  /** As the option of `fetch`. */
  credentials?: RequestCredentials;
  /** One connection for all tabs of this origin; strings separate different connections. */
  share?: boolean | string;
  /** Ms without a byte until another transport is tried; the time of `token` does not count. */
  patience?: number;
  /** Ms without a byte until a stream is dead; more than twice the server's heartbeat. */
  silence?: number;
  /** The server's routes, relative to the URL; default "poll", "ws", "publish". */
  pollUrl?: string;
  websocketUrl?: string;
  publishUrl?: string;
}

export interface Publication {
  /** The event type. */
  event?: string;
  /** The idempotency key, by default random: publishes with equal keys are one message. */
  key?: string;
}

export interface Realtime {
  readonly state: StateName;
  readonly transport: TransportName | "";
  readonly channels: readonly string[];
  /** The position up to which everything was received; `since` of a later connection. */
  readonly position: string | undefined;
  /** Returns a function that removes the listener. */
  on(type: "message", listener: (message: Message) => void): () => void;
  on(type: "gap", listener: (gap: Gap) => void): () => void;
  on(type: "state", listener: (state: State) => void): () => void;
  on(type: "error", listener: (error: Refused) => void): () => void;
  /** Resolves after missed messages were received, or after the `error` if it is refused. */
  subscribe(channels: string | readonly string[], beginning?: Beginning): Promise<void>;
  unsubscribe(channels: string | readonly string[]): void;
  /** Resolves to the message's position; rejects with the `status` if it is refused. */
  publish(channel: string, data: string | Uint8Array, how?: Publication): Promise<string>;
  close(): void;
}

/** Connects to the streams at `url`, such as "/". */
export function connect(url: string | URL, options?: Options): Realtime;
