const STATES = ["calm", "empty", "alarms", "large"];
// One replica sends and reads the sources, the other one does neither.
const REPLICAS = ["sender", "follower"];

// The screens that are tested. `path` may name values of a state in braces. A screen whose `states`
// are not given is tested in all of those of a single process. A screen with a `status` is a page about an error; `names`
// are words of its path that every language shows.

export const SCREENS = [
  { name: "overview", path: "/", states: [...STATES, ...REPLICAS] },
  { name: "shop", path: "/shops/{shop}", states: [...STATES, "follower"] },
  { name: "sku", path: "/shops/{shop}/skus/{sku}", states: ["calm", "alarms", "large", "follower"] },
  { name: "unknown-sku", path: "/shops/{shop}/skus/tea-0001", states: ["calm"], status: 404, names: ["tea-0001"] },
  // Nothing begins so in the largest state: the slowest search, which visits every SKU on a thread
  // of its own.
  { name: "search", path: "/search?sku=T", states: ["calm", "large"], maxMs: 100 },
  { name: "unknown-shop", path: "/shops/nowhere", states: ["calm"], status: 404, names: ["nowhere"] },
  { name: "hostile-sku", path: "/shops/{shop}/skus/{hostileSku}", states: ["calm"] },
  { name: "sources", path: "/sources", states: [...STATES, "follower"] },
  { name: "held", path: "/sources/{shop}/{source}/held", states: ["alarms"] },
  { name: "events", path: "/events", states: [...STATES, "follower"] },
  { name: "ready", path: "/ready", states: [...STATES, "follower"] },
  { name: "login", path: "/login", states: ["empty"] },
];

const PAGES = SCREENS.filter((screen) => !screen.status);

/** Screens that are tested in a state, without the pages about errors unless `screens` has them. */
export function screensIn(name, screens = PAGES) {
  return screens.filter(({ states = STATES }) => states.includes(name));
}

/** Path of a screen with the values of a state. */
export function pathOf(screen, values) {
  return screen.path.replace(/\{(\w+)\}/g, (_, name) => {
    if (values[name] === undefined) throw new Error(`the state has no ${name} for ${screen.path}`);
    return encodeURIComponent(values[name]);
  });
}
