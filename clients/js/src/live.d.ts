/**
 * `waiting`: for a publisher. `refused`: the browser cannot play the stream, or the server
 * refused the viewer; the element tries again.
 */
export type LiveState = "connecting" | "waiting" | "playing" | "refused";

/** `refused`: by the server or by the user; `start()` tries again. */
export type CameraState = "stopped" | "connecting" | "publishing" | "refused";

/**
 * `<rt-live src="/live/cam">`: one live stream. Attributes: `src`, by default the path of the page;
 * `transport="websocket"`; `compact`, without the command for a publisher; `publish`, with a link to
 * the page `src` + `/publish`. An event `state` has the new state as its `detail`.
 */
export class LiveElement extends HTMLElement {
  readonly state: LiveState | null;
  /** The path of the stream, without `.mp4` or `.webm`. */
  readonly path: string;
  /** The video element: to turn the sound on, or to go to full screen. */
  readonly video: HTMLVideoElement;
}

/** `<rt-wall list="/live.json">`: an `rt-live` for each stream of a list. */
export class WallElement extends HTMLElement {}

/**
 * `<rt-camera src="/live/cam">`: publishes a camera or the screen. Attributes: `src`; `transport`,
 * `websocket` or `post`; `type`, a content type with codecs for the MediaRecorder; `bitrate`, of
 * the video, bits per second. An event `state` has the new state as its `detail`.
 */
export class CameraElement extends HTMLElement {
  readonly state: CameraState | null;
  readonly path: string;
  /** What is published; assign a stream of the page's own, or null to stop. */
  stream: MediaStream | null;
  /** Ask for the camera and the microphone, or for the screen, and publish them. */
  start(source?: "camera" | "screen"): Promise<void>;
  stop(): void;
}

/** Return an ffmpeg command that publishes a test picture and a tone to `url`. */
export function publishCommand(url: string): string;

declare global {
  interface HTMLElementTagNameMap {
    "rt-live": LiveElement;
    "rt-wall": WallElement;
    "rt-camera": CameraElement;
  }
}
