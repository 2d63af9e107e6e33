// A text of JSON with its line numbers, and what is wrong with it: each fault leads to its line.
import { useRef } from 'preact/hooks';
import { t, told } from './i18n';
import type { Place } from './json';
import type { Fault } from './wanted';

type Area = { current: HTMLTextAreaElement | null };
/** Lines that are numbered, and faults that are listed. */
const LINES = 2000;
const LISTED = 20;

export function Editor({ area, label, text, set, faults }: { area: Area; label: string; text: string; set: (text: string) => void; faults: Fault[] }) {
  const gutter = useRef<HTMLDivElement>(null);
  const bad = new Set(faults.map((fault) => fault.place?.line ?? 0));
  const lines = Math.min(LINES, text.split('\n').length);
  return (
    <div class="editor">
      <div class="gutter" ref={gutter} aria-hidden="true">
        {Array.from({ length: lines }, (_, i) => (
          <div key={i} class={bad.has(i + 1) ? 'is-bad' : undefined}>
            {i + 1}
          </div>
        ))}
      </div>
      <textarea
        ref={area}
        wrap="off"
        spellcheck={false}
        aria-label={label}
        aria-invalid={bad.size ? true : undefined}
        rows={12}
        value={text}
        onInput={(e) => set(e.currentTarget.value)}
        onScroll={(e) => gutter.current && (gutter.current.scrollTop = e.currentTarget.scrollTop)}
      />
    </div>
  );
}

export function Faults({ area, text, all }: { area: Area; text: string; all: Fault[] }) {
  const show = (place: Place) => {
    const lines = text.split('\n');
    const from = lines.slice(0, place.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    area.current!.focus();
    area.current!.setSelectionRange(from, from + (lines[place.line - 1]?.length ?? 0));
  };
  return (
    <div role="status">
      {all.length > 0 && (
        <ul class="faults">
          {all.slice(0, LISTED).map((fault, i) => (
            <li key={i}>
              {fault.place && (
                <button type="button" class="plain" onClick={() => show(fault.place!)}>
                  {t('line {line}, column {column}', { ...fault.place })}
                </button>
              )}{' '}
              {fault.field && <code>{fault.field}</code>} {told(fault.message)}
            </li>
          ))}
          {all.length > LISTED && <li>{t('and {n} more', { n: all.length - LISTED })}</li>}
        </ul>
      )}
    </div>
  );
}
