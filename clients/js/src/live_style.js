// What the elements for live streams look like.

export const STYLE = `
  :host { display: block; position: relative; background: #111; color: #eee; overflow: hidden;
    aspect-ratio: 16 / 9; font: 14px/1.4 system-ui, sans-serif; }
  :host([hidden]) { display: none; }
  video { display: block; width: 100%; height: 100%; object-fit: contain; }
  .bar { position: absolute; inset: auto 0 0; display: flex; gap: .75em; align-items: center;
    padding: .5em .75em; background: linear-gradient(transparent, #000a); }
  .name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .latency { margin-left: auto; white-space: nowrap; font-variant-numeric: tabular-nums; opacity: .85; }
  button { font: inherit; color: inherit; background: #fff2; border: 1px solid #fff6;
    border-radius: .4em; padding: .2em .7em; cursor: pointer; white-space: nowrap; }
  button:hover { background: #fff4; }
  button:disabled { opacity: .4; cursor: default; }
  .note { position: absolute; inset: 0; display: flex; flex-direction: column; gap: .75em;
    align-items: center; justify-content: center; padding: 1em 1em 3em; text-align: center;
    background: #111d; overflow: auto; }
  .note[hidden], .publish[hidden], button[hidden], a[hidden] { display: none; }
  .own { margin-left: 1em; }
  .publish { max-width: 46em; text-align: left; }
  pre { margin: .3em 0 .6em; padding: .7em; background: #000; border: 1px solid #444;
    border-radius: .4em; white-space: pre-wrap; overflow-wrap: anywhere; user-select: all;
    font: 12px/1.5 ui-monospace, monospace; }
  :host([compact]) .publish { display: none; }
  a { color: inherit; }
`;
