// Compiled by the tests, never run: what the types promise, and what they forbid.
import { connect, Refused, type Gap, type Message } from "../src/realtime.js";
import { bind } from "../src/attributes.js";
import { publishCommand, type CameraState, type LiveState } from "../src/live.js";

const live = connect("/", {
  channels: ["news"],
  since: "10m",
  transport: ["sse", "poll"],
  token: async () => "secret",
});
const off: () => void = live.on("message", (message: Message) => {
  const text: string | Uint8Array = message.data;
  console.log(message.channel, text);
});
live.on("gap", (gap: Gap) => console.log(gap.position));
live.on("state", ({ state, transport }) => console.log(state === "open", transport));
live.on("error", (error) => console.log(error instanceof Refused && error.status));
await live.subscribe("sport", { history: 10 });
const position: string = await live.publish("news", "hello", { event: "greeting" });
live.unsubscribe(["sport"]);
live.close();
off();
bind({ url: "/", type: "text" }).on("gap", () => location.reload());
console.log(position);
const player = document.createElement("rt-live");
const shown: LiveState | null = player.state;
player.video.muted = shown !== "playing";
const camera = document.querySelector("rt-camera");
if (camera) {
  camera.stream = document.createElement("canvas").captureStream(25);
  const published: CameraState | null = camera.state;
  await camera.start("screen");
  camera.stop();
  console.log(published, publishCommand("http://127.0.0.1/live/cam"));
}

// @ts-expect-error  not a transport
connect("/", { transport: "carrier pigeon" });
// @ts-expect-error  not a source
camera?.start("window");
// @ts-expect-error  read only
player.state = "playing";
// @ts-expect-error  read only
live.state = "open";
// @ts-expect-error  not an event
live.on("mesage", () => {});
