// Elements name their channels and events, as with cyclone-sse's jQuery plugins:
//
//   <ul data-sse-channels="news,sport" data-sse-events="goal,card"></ul>
//
// Messages are JSON arrays ["type", data]. Each element receives the events `sse.goal` and
// `sse.card` with the data as `event.detail`, `sse.message` with the whole message, and
// `sse.open`, `sse.error` and `sse.gap`.

import { connect } from "./realtime.js";

const words = (element, name) => (element.getAttribute(name) ?? "").split(",")
  .map((word) => word.trim()).filter(Boolean);

/** Connect for all elements that match `selector` now; returns the connection. */
export function bind({
  url = "/",
  selector = "[data-sse-channels]",
  channelAttr = "data-sse-channels",
  eventAttr = "data-sse-events",
  eventPrefix = "sse.",
  type = "json",
  root = document,
  ...options
} = {}) {
  const elements = [...root.querySelectorAll(selector)].map((element) => ({
    element,
    channels: words(element, channelAttr),
    events: words(element, eventAttr),
  }));
  const trigger = (element, name, detail) =>
    element.dispatchEvent(new CustomEvent(eventPrefix + name, { detail, bubbles: true }));
  const tellAll = (name, detail) => elements.forEach(({ element }) => trigger(element, name, detail));
  const channels = [...new Set(elements.flatMap((one) => one.channels))];
  const live = connect(url, { ...options, channels });
  live.on("state", ({ state }) => {
    if (state === "open") tellAll("open");
    else if (state === "waiting") tellAll("error");
  });
  live.on("error", (error) => tellAll("error", error));
  live.on("gap", (gap) => tellAll("gap", gap));
  live.on("message", ({ channel, event, data }) => {
    let whole = data;
    if (type === "json") {
      try {
        whole = JSON.parse(data);
      } catch (error) {
        return tellAll("error", error);
      }
    }
    const pair = Array.isArray(whole) && typeof whole[0] === "string";
    const [name, value] = pair ? whole : [event, whole];
    for (const one of elements) {
      if (!one.channels.includes(channel)) continue;
      if (name !== "message" && one.events.includes(name)) trigger(one.element, name, value);
      trigger(one.element, "message", whole);
    }
  });
  return live;
}
