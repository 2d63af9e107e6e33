// Where the page is: paths of the address, and links that do not load it anew.
import { signal } from '@preact/signals';

export const here = signal(location.pathname + location.search);

/** The parts of the path, and what stands after `?`. */
export function parts(at: string): { path: string[]; query: URLSearchParams } {
  const [path = '', query = ''] = at.split('?', 2);
  return { path: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function go(to: string, replace = false) {
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  here.value = location.pathname + location.search;
  if (!replace) scrollTo(0, 0);
}

addEventListener('popstate', () => (here.value = location.pathname + location.search));
document.addEventListener('click', (event) => {
  const link = (event.target as Element).closest?.('a[href^="/"]');
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.getAttribute('target') || link.hasAttribute('download')) return;
  event.preventDefault();
  go(link.getAttribute('href')!);
});
