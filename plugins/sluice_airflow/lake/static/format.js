// Numbers, sizes, durations and times as people read them. All times are UTC.

const numbers = new Intl.NumberFormat("en-US");

export const number = (value) => (value === null || value === undefined ? "–" : numbers.format(value));

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export const bytes = (value) => {
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return `${unit === "B" ? size : size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
};

// The greatest units: "3 d 4 h", "5 min 2 s".
export const duration = (seconds, units = 2) => {
  if (seconds === null || seconds === undefined) return "–";
  const parts = [];
  let left = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || (unit === "s" && !parts.length)) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, units).join(" ");
};

// "2026-11-27 15:04:05", in UTC.
export const time = (iso, { seconds = true } = {}) =>
  iso ? new Date(iso).toISOString().replace("T", " ").slice(0, seconds ? 19 : 16) : "–";

export const clock = (iso) => (iso ? new Date(iso).toISOString().slice(11, 16) : "–");

export const secondsBetween = (from, to) => (new Date(to) - new Date(from)) / 1000;

// A run id without the part that makes it unique, for narrow places.
export const runName = (runId) => runId.replace(/\.\d+/, "").replace("+00:00", "Z").replace(/_[A-Za-z0-9]{8}$/, "");

export const fileName = (key) => key.replace(/\/$/, "").split("/").pop();
