// An event stream with tokens: expiring_events.js LIBRARY URL FIRST-TOKEN NEXT-TOKEN
// Prints a JSON line for each event. LIBRARY is a package of npm:
//   eventsource, @microsoft/fetch-event-source: in a header; the next one from `expire` on.
//   reconnecting-eventsource: as a cookie; the next one when the first has been refused.
const [library, url, first, next] = process.argv.slice(2);
let token = first;
const print = (kind, data) => console.log(JSON.stringify([kind, data]));
const renew = () => {
  if (token !== next) print("renewed", "");
  token = next;
};
const byHeader = (input, init) =>
  fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
const byCookie = async (input, init) => {
  const response = await fetch(input, {
    ...init,
    headers: { ...init.headers, Cookie: `realtime_token=${token}` },
  });
  if (response.status === 401) renew();
  return response;
};

const show = (source, onExpire) => {
  source.onopen = () => print("open", "");
  source.addEventListener("message", (event) => print("message", event.data));
  source.addEventListener("expire", (event) => {
    onExpire();
    print("expire", event.data);
  });
  source.addEventListener("gap", (event) => print("gap", event.data));
  source.onerror = (event) => print("error", event.code ?? "");
};

const start = {
  eventsource: async () => {
    const { EventSource } = await import("eventsource");
    show(new EventSource(url, { fetch: byHeader }), renew);
  },
  "reconnecting-eventsource": async () => {
    const { EventSource } = await import("eventsource");
    const Reconnecting = require("reconnecting-eventsource").default;
    class WithCookie extends EventSource {
      constructor(address) {
        super(address, { fetch: byCookie });
      }
    }
    show(new Reconnecting(url, { eventSourceClass: WithCookie, max_retry_time: 500 }), () => {});
  },
  "@microsoft/fetch-event-source": async () => {
    globalThis.window = globalThis; // what it needs of a browser
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = require("@microsoft/fetch-event-source");
    await fetchEventSource(url, {
      fetch: byHeader,
      onopen: async (response) => {
        if (!response.ok) throw new Error(String(response.status));
        print("open", "");
      },
      onmessage: ({ event, data }) => {
        if (event === "expire") renew();
        if (data) print(event || "message", data);
      },
      onclose: () => { throw new Error("ended"); }, // so it connects again
      onerror: (error) => print("error", error.message),
    });
  },
};
start[library]();
