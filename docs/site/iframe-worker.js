// A page that is opened as a file may start no worker, so there the search runs in a hidden frame. The theme's search asks for
// `IFrameWorker`, and its plugin `offline` would fetch one from the network if no file of this name were here.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(source) {
      super();
      const frame = document.body.appendChild(document.createElement("iframe"));
      frame.hidden = true;
      const inside = (this.inside = frame.contentWindow);
      inside.document.open();
      inside.document.write("<!doctype html><body>");
      inside.document.close();
      const load = (src) =>
        new Promise((onload, onerror) => {
          const script = Object.assign(inside.document.createElement("script"), { src, onload, onerror });
          inside.document.body.append(script);
        });
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...sources) => {
        for (const each of sources) await load(each);
      };
      this.loaded = load(source);
    }

    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
