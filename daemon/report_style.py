"""How a report looks: on a phone, on a desk, in the dark, and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #22252a; --quiet: #626973; --line: #d9d6cf;
  --paper: #fdfcf9; --card: #f4f2ec; --mark: #1f6f5c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e3dc; --quiet: #a3a8af; --line: #3d4148;
  --paper: #191b1e; --card: #23262a; --mark: #6cc5ac; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 3rem; background: #fdfcf9;
  background: var(--paper); color: #22252a; color: var(--ink); overflow-wrap: anywhere;
  font: 17px/1.55 Charter, "Iowan Old Style", "Palatino Linotype", Georgia, serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.3rem 0 0.8rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 0.5rem; padding-top: 0.7rem;
  border-top: 1px solid #d9d6cf; border-color: var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 0.4rem; }
p { margin: 0.5rem 0; }
small, .quiet, figcaption, caption, dt { color: #626973; color: var(--quiet); }
small, figcaption, caption, table, dl, .draft h3, .top, svg text, footer {
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
small, figcaption, dl, .top, footer { font-size: 0.8rem; line-height: 1.45; }
.top { margin: 0; letter-spacing: 0.02em; }
.verdict { border-left: 0.3rem solid #1f6f5c; border-color: var(--mark); padding-left: 1rem; }
.aside { border-color: var(--quiet); }
table { width: 100%; border-collapse: collapse; table-layout: fixed; font-size: 0.85rem;
  line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.5rem 0.25rem 0; }
thead th { font-size: 0.75rem; border-bottom: 1px solid #d9d6cf; border-color: var(--line); }
.name th { padding-top: 0.8rem; font-weight: 600; }
.name small { display: block; font-weight: 400; }
caption { text-align: left; font-size: 0.75rem; padding-bottom: 0.4rem; }
td small { display: block; font-size: 0.7rem; white-space: nowrap; }
.best { color: #1f6f5c; color: var(--mark); font-weight: 700; }
.counts td:first-child { width: 4.5rem; text-align: right; padding-right: 1rem; }
.counts { table-layout: auto; }
blockquote { margin: 0.4rem 0 1rem; padding: 0.1rem 0 0.1rem 1rem; font-style: italic;
  border-left: 2px solid #d9d6cf; border-color: var(--line); white-space: pre-wrap; }
.drafts { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.draft { padding: 0.7rem 0.9rem; border-radius: 0.4rem; background: #f4f2ec;
  background: var(--card); }
.draft h3 { margin: 0 0 0.3rem; font-size: 0.75rem; color: #626973; color: var(--quiet); }
.draft p { margin: 0; white-space: pre-wrap; font-size: 0.92rem; line-height: 1.45; }
.own { outline: 2px solid #1f6f5c; outline-color: var(--mark); outline-offset: -2px; }
.charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; }
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
svg text { font-size: 10.5px; fill: #626973; fill: var(--quiet); }
svg path { fill: none; stroke: #22252a; stroke: var(--ink); }
svg .grid, svg .axis { stroke: #d9d6cf; stroke: var(--line); stroke-width: 1; }
svg .faint { stroke-width: 1; opacity: 0.3; }
svg .bold { stroke: #1f6f5c; stroke: var(--mark); stroke-width: 2; stroke-linejoin: round; }
svg .dot, svg .kept { fill: #1f6f5c; fill: var(--mark); }
dl { display: grid; grid-template-columns: minmax(6rem, 11rem) 1fr; gap: 0.2rem 1rem; }
dd { margin: 0; }
code { font-size: 0.9em; }
footer { margin-top: 3rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; }
  tbody, .draft, figure, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""
