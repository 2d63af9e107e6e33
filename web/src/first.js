// Asks for what every page begins with, while the page's own code is still on its way; `api` takes the answers. Somebody who signs in
// by the address has no session yet.
if (!location.hash.startsWith('#token=')) {
  window.first = {};
  for (const path of ['/v1/session', '/v1/tasks', '/v1/nodes']) {
    window.first[path] = fetch(path);
    window.first[path].catch(() => {});
  }
}
