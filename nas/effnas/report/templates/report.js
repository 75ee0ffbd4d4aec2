"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const tables = read("tables");
  const figures = read("figures");

  // -- files

  const quoted = (cell) => {
    const text = cell === null ? "" : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const fileOf = (name, kind) => {
    const { columns, rows } = tables[name];
    const names = columns.map((c) => c[0]);
    if (kind === "csv") return [names, ...rows].map((r) => r.map(quoted).join(",")).join("\r\n") + "\r\n";
    return JSON.stringify(rows.map((r) => Object.fromEntries(r.map((v, n) => [names[n], v]))), null, 1);
  };
  const save = (name, kind) => {
    const url = URL.createObjectURL(new Blob([fileOf(name, kind)], { type: "text/plain" }));
    const link = Object.assign(document.createElement("a"), { href: url, download: `${name}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  for (const button of document.querySelectorAll("[data-file]"))
    button.onclick = () => save(button.dataset.file, button.dataset.kind);
  for (const button of document.querySelectorAll("[data-copy]"))
    button.onclick = async () => {
      const pre = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(pre.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(pre);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    };

  // -- long tables

  const shown = (value, form) => {
    if (value === null) return "–";
    if (typeof value !== "number" || !form) return String(value);
    const digits = +(form.match(/\.(\d+)/)?.[1] ?? 0);
    if (form.endsWith("%")) return `${(100 * value).toFixed(digits)}%`;
    if (form.endsWith("g")) return String(+value.toPrecision(digits || 6));
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: form.includes(",") };
    return value.toLocaleString("en-US", options);
  };
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  for (const place of document.querySelectorAll("[data-table]")) {
    const { columns, rows } = tables[place.dataset.table];
    const [input, count, box] = ["input", ".count", ".scroll"].map((s) => place.querySelector(s));
    const texts = rows.map((r) => r.map((v, n) => shown(v, columns[n][1])));
    let order = rows.map((_, n) => n);
    let by = -1;
    let turned = 1;
    const table = element("table");
    const head = table.createTHead().insertRow();
    const body = table.createTBody();
    const fill = () => {
      const wanted = input.value.toLowerCase();
      const some = order.filter((n) => !wanted || texts[n].some((t) => t.toLowerCase().includes(wanted)));
      body.replaceChildren(...some.map((n) => {
        const row = element("tr");
        row.append(...texts[n].map((t, c) => element("td", t, columns[c][1] && "n")));
        return row;
      }));
      count.textContent = some.length === rows.length ? `${rows.length} row${rows.length === 1 ? "" : "s"}` : `${some.length} of ${rows.length} rows`;
    };
    columns.forEach(([, form, title], c) => {
      const cell = element("th", undefined, form && "n");
      const button = element("button", title);
      button.onclick = () => {
        turned = by === c ? -turned : form && c ? -1 : 1;
        by = c;
        const last = (v) => v === null;
        order.sort((a, b) => {
          const [x, y] = [rows[a][c], rows[b][c]];
          if (last(x) || last(y)) return last(x) - last(y) || a - b;
          return turned * (x < y ? -1 : x > y ? 1 : 0) || a - b;
        });
        for (const other of head.cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", turned > 0 ? "ascending" : "descending");
        fill();
      };
      cell.append(button);
      head.append(cell);
    });
    input.oninput = fill;
    box.append(table);
    fill();
  }

  // -- figures

  const themed = (value, colour) => {
    if (typeof value === "string") return value[0] === "@" ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map((v) => themed(v, colour));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, colour)]));
    return value;
  };
  const merged = (base, more) => {
    const found = { ...base };
    for (const [key, value] of Object.entries(more ?? {})) {
      const both = value && found[key] && typeof value === "object" && !Array.isArray(value);
      found[key] = both ? merged(found[key], value) : value;
    }
    return found;
  };
  const narrow = matchMedia("(max-width: 640px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const draw = async () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = {
      automargin: true, gridcolor: "@line", linecolor: "@line", zerolinecolor: "@line", ticks: "",
      tickfont: { size: 12, color: "@ink" }, title: { font: { size: 13, color: "@muted" }, standoff: 10 },
    };
    for (const [name, { data, layout }] of Object.entries(figures)) {
      const place = document.getElementById(`figure-${name}`);
      const common = {
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "@ink" },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 8, r: narrow.matches ? 16 : 40, t: 8, b: 44 },
        xaxis: axis, yaxis: axis, hovermode: "closest", bargap: 0.35,
        hoverlabel: { bgcolor: "@paper", bordercolor: "@line", align: "left", font: { size: 12, color: "@ink" } },
        showlegend: false,
      };
      const options = { displayModeBar: false, responsive: true };
      await Plotly.react(place, themed(data, colour), themed(merged(common, layout), colour), options);
      await new Promise((resolve) => setTimeout(resolve));
    }
  };
  const glyphs = { diamond: "◆", star: "★", x: "✕", "line-ns-open": "|" };
  const addLegends = () => {
    for (const [name, { data }] of Object.entries(figures)) {
      const named = data.filter((trace) => trace.name && trace.showlegend !== false);
      if (named.length < 2) continue;
      const legend = element("p", undefined, "key");
      for (const { name: text, type, mode, marker, line, fill } of named) {
        const mark = element("i", type === "bar" ? "■" : mode === "lines" ? (fill ? "▒" : line.dash ? "┄" : "━") : glyphs[marker.symbol] ?? "●");
        mark.style.color = `var(--${(mode === "lines" ? line : marker).color.slice(1)})`;
        const item = element("span", text, "entry");
        item.prepend(mark);
        legend.append(item);
      }
      document.getElementById(`figure-${name}`).before(legend);
    }
  };
  const unpacked = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  const start = async () => {
    if (Object.keys(figures).length) {
      addLegends();
      await unpacked();
      await draw();
      dark.addEventListener("change", draw);
      narrow.addEventListener("change", draw);
    }
    document.documentElement.dataset.ready = "yes";
  };
  start().catch((error) => {
    for (const place of document.querySelectorAll(".figure:empty"))
      place.replaceChildren(element("p", `This browser cannot draw the figure (${error.message}); the tables have its numbers.`, "waiting"));
  });
})();
