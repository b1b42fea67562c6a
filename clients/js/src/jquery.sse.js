// cyclone-sse's jQuery plugins, over realtime.js: $.eventsource, $.sse and $.fn.sse, with their
// options, attributes and events. A plain script for pages that are not changed; it replaces
// jquery.eventsource.js, jquery.sse.js and jquery.sse.simple.js, and may be loaded as all three.

(($) => {
  if ($.eventsource?.label) return;  // loaded before
  const { src } = document.currentScript;
  const client = `${src.split(/[?#]/)[0]}?realtime.js`;  // the daemon serves it there
  const streams = {};  // by label

  const words = (text) => [...new Set((text ?? "").split(",").map((word) => word.trim()))].filter(Boolean);

  // The plain EventSource is for routes that set the channels, and without modules.
  const open = async (full, { state, message }) => {
    const url = new URL(full, location);
    const take = (name) => {
      const values = url.searchParams.getAll(name);
      url.searchParams.delete(name);
      return values;
    };
    const channels = words(take("channels").join());
    const [[since], [history]] = [take("since"), take("history")];
    take("uuid");
    try {
      if (!channels.length) throw channels;
      const { connect } = await import(client);
      const live = connect(url.href, { channels, since, history: history && +history });
      live.on("state", (now) => state(now.state));
      live.on("error", (error) => state("refused", error));
      live.on("message", ({ event, data, id }) => message(event, data, id));
      return live;
    } catch {
      const source = new EventSource(full);
      source.onopen = () => state("open");
      source.onerror = (error) => state("refused", error);
      source.onmessage = ({ data, lastEventId }) => message("message", data, lastEventId);
      return source;
    }
  };

  const start = (options) => {
    const entry = { options, stream: { label: options.label }, lastEventId: "", history: [] };
    const call = (name, ...values) => {
      if (!entry.closed) options[name]?.apply(entry.stream, values);
    };
    const query = options.data ? (options.url.includes("?") ? "&" : "?") + options.data : "";
    entry.opened = open(options.url + query, {
      state: (now, error) => {
        if (now === "open") call("open", { type: "open" });
        else if (error || now === "waiting") call("error", error ?? { type: "error" });
      },
      message: (type, data, lastEventId) => {
        let value = data;
        try {
          if (options.dataType === "json") value = JSON.parse(data);
        } catch (error) {
          return call("error", error);
        }
        entry.lastEventId = lastEventId;
        const event = { type, data, lastEventId };
        if (type === "message") call("message", value || null, event);
        else if (!entry.closed) options.events?.[type]?.call(entry.stream, value, event);
      },
    });
    return entry;
  };

  const close = (entry) => {
    for (; entry; entry = entry.before) {
      entry.closed = true;
      entry.opened.then((stream) => stream.close());
    }
  };

  const does = {
    close: (label) => {
      for (const name of Object.keys(streams)) {
        if (label && label !== "*" && label !== name) continue;
        close(streams[name]);
        delete streams[name];
      }
      return streams;
    },
    streams: (label) => (label && label !== "*" ? streams[label] ?? {} : streams),
  };

  $.eventsource = (options, label) => {
    if (does[options]) return does[options](label);
    if (typeof options?.url !== "string" || !options.url) throw new SyntaxError("$.eventsource needs a url");
    const data = $.isPlainObject(options.data) ? $.param(options.data, true) : options.data;
    const named = { ...options, data, label: options.label || `${options.url}?${data}` };
    const entry = start(named);
    entry.before = streams[named.label];  // several elements may have the same label
    streams[named.label] = entry;
    return streams;
  };
  Object.assign($.eventsource, does, { label: "realtime.js" });

  const debugged = ({ debug }) => (...values) => debug && console.log(...values);

  const subscribe = ({ label, type, debug }, url, channels, elements, prefix, message) => {
    const log = debugged({ debug });
    log("sse url:", url, channels);
    $.eventsource({
      label,
      url,
      data: channels.length ? $.param({ channels }, true) : null,
      dataType: type,
      open() {
        log("sse connection opened");
        elements.trigger(`${prefix}open`);
      },
      error(error) {
        log("sse connection error", error);
        elements.trigger(`${prefix}error`, [error]);
      },
      message(value) {
        log(value);
        if (value) message(value);
      },
    });
  };

  $.sse = (given) => {
    const options = {
      url: "/sse/", selector: ".sse", channelAttr: "data-sse-channels", eventAttr: "data-sse-events",
      debug: false, label: "default", type: "json", eventPrefix: "sse.", ...given,
    };
    const elements = $(options.selector);
    const list = (attribute) => words(elements.get().map((one) => $(one).attr(attribute) ?? "").join());
    const channels = list(options.channelAttr);
    if (!channels.length) return debugged(options)("no channels found");
    subscribe(options, options.url, channels, elements, options.eventPrefix, (value) => {
      if (!Array.isArray(value)) return;
      const [type, data] = value;
      elements.filter((_, one) => words($(one).attr(options.eventAttr)).includes(String(type)))
        .trigger(options.eventPrefix + type, data);
    });
  };

  $.fn.sse = function sse(given) {
    const options = { address: null, channels: [], type: "json", label: "sse-channel", debug: false, ...given };
    return this.each((_, one) => {
      const element = $(one);
      const url = element.attr("data-sse-address") || options.address;
      if (!url) return console.log("no sse server address specified");
      const own = words(element.attr("data-sse-channels"));
      subscribe(options, url, own.length ? own : options.channels, element, "sse.", (value) => {
        element.trigger("sse.message", value);
      });
    });
  };
})(jQuery);
