// npm eventsource with a token in its own fetch: expiring_events.js URL FIRST-TOKEN NEXT-TOKEN
// Prints a JSON line for each event; a new token is used from the event `expire` on.
import("eventsource").then(({ EventSource }) => {
  const [url, first, next] = process.argv.slice(2);
  let token = first;
  const source = new EventSource(url, {
    fetch: (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  });
  const print = (kind, data) => console.log(JSON.stringify([kind, data]));
  source.onopen = () => print("open", "");
  source.onmessage = (event) => print("message", event.data);
  source.addEventListener("expire", (event) => {
    token = next;
    print("expire", event.data);
  });
  source.addEventListener("gap", (event) => print("gap", event.data));
  source.onerror = (event) => print("error", event.code ?? "");
});
