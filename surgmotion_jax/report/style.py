"""The style sheet: one column of text, two of charts, system fonts, light and dark, phone and paper."""

from __future__ import annotations

LIGHT = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1a1f26;--soft:#56606d;--hair:#dfe3e8;--wash:#f5f7f9;
--ok:#1c7a4f;--watch:#b04a0c;--okwash:#e9f5ef;--watchwash:#fdf0e6;
--c0:#1f62b0;--c1:#c4501f;--c2:#2a8767;--c3:#8450b4;--c4:#96700c}
"""

DRAWING = """
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:12px}
.grid{stroke:var(--hair);stroke-width:1;shape-rendering:crispEdges}
.base{stroke:var(--soft);stroke-width:1;shape-rendering:crispEdges;opacity:.75}
.line{fill:none;stroke:currentColor;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}
.line.faint{stroke-width:1;opacity:.33}
.line.dash{stroke-dasharray:6 4}.line.dot{stroke-dasharray:.1 4.4;stroke-width:2.4}
.point{fill:currentColor}
.limit{stroke:var(--watch);stroke-width:1;stroke-dasharray:2 3}
.event{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
.event.alarm{stroke:var(--watch);stroke-dasharray:none}
svg text.halo{paint-order:stroke;stroke:var(--paper);stroke-width:3.5px;stroke-linejoin:round;font-size:11px}
svg text.alarm,svg text.limit{fill:var(--watch);}
svg text.limit{stroke:var(--paper);stroke-dasharray:none}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}
"""
"""What charts need, also where they are files of their own."""

STYLE = (
    LIGHT
    + """
@media screen and (prefers-color-scheme:dark){:root{--paper:#12161b;--ink:#e4e8ed;--soft:#98a3b0;--hair:#2b323b;
--wash:#1a2027;--ok:#62cb9a;--watch:#f2a266;--okwash:#15291f;--watchwash:#32220f;
--c0:#6caef5;--c1:#f18d62;--c2:#5cc6a2;--c3:#c09aec;--c4:#d9b24d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Noto Sans","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:66rem;margin:0 auto;padding:2.2rem 1.5rem 4rem}
h1,h2,h3,p,figure,dl,dd{margin:0}
h1{font-size:1.85rem;line-height:1.2;letter-spacing:-.015em;font-weight:650;overflow-wrap:anywhere}
.eyebrow{color:var(--soft);font-size:.8rem;margin-bottom:.25rem}
.subtitle{color:var(--soft);margin-top:.3rem;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.15rem;margin-top:1.1rem;font-size:.87rem}
nav a{color:var(--c0);text-decoration:none}
nav a:hover,nav a:focus-visible{text-decoration:underline}
section{margin-top:2rem;padding-top:1.1rem;border-top:1px solid var(--hair)}
h2{font-size:1.15rem;font-weight:650;letter-spacing:-.005em;margin-bottom:.75rem}
h3{font-size:.93rem;font-weight:600;margin:1.5rem 0 .6rem}
h3 span{font-weight:400;color:var(--soft);margin-left:.5rem;overflow-wrap:anywhere}
.quiet{color:var(--soft);max-width:46rem}
.quiet+.quiet{margin-top:.5rem}
.charts+.quiet{margin-top:.9rem}
.headline{font-size:1.28rem;line-height:1.38;font-weight:600;letter-spacing:-.008em;max-width:46rem}
.lead{max-width:46rem;margin-top:.45rem}
.note{max-width:46rem;margin-top:1.2rem;padding-left:.9rem;border-left:3px solid var(--hair);color:var(--soft)}
.note b{color:var(--ink);font-weight:600}
.alarm{color:var(--watch)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.6rem,1fr));gap:.7rem;margin-top:1.15rem}
.tile{border:1px solid var(--hair);border-radius:8px;padding:.7rem .85rem .75rem}
.tile .name{font-size:.82rem;color:var(--soft);line-height:1.3}
.tile .value{font-size:1.55rem;font-weight:600;letter-spacing:-.02em;line-height:1.25;margin-top:.15rem}
.tile .value small{font-size:.95rem;font-weight:500;letter-spacing:0;margin-left:.15rem}
.tile .mark{display:inline-block;border-radius:99px;padding:.02rem .5rem;font-size:.77rem;font-weight:600;
margin:.2rem 0 .35rem;background:var(--wash);color:var(--soft)}
.tile .ok{background:var(--okwash);color:var(--ok)}
.tile .watch{background:var(--watchwash);color:var(--watch)}
.tile .more{font-size:.79rem;line-height:1.4;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(18.5rem,100%),1fr));gap:1.3rem 1.9rem}
.charts{align-items:end}.chart{min-width:0;break-inside:avoid}
.chart.wide{grid-column:span 2}.snug{display:none}
.chart figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:.05rem .8rem;font-size:.84rem;
line-height:1.45;margin-bottom:.15rem;align-content:flex-start}

.chart figcaption b{font-weight:600;font-size:.9rem;flex:0 0 100%}
.chart figcaption b span{font-weight:400;color:var(--soft);font-size:.82rem;margin-left:.3rem}
.key{color:var(--soft);white-space:nowrap}
.key i{display:inline-block;width:1.15rem;border-top:2.5px solid;margin-right:.35rem;vertical-align:.24em}
.key strong{color:var(--ink);font-weight:600;margin-left:.3rem}
.key .dash{border-top-style:dashed}.key .dot{border-top-style:dotted}
"""
    + DRAWING
    + """
.scroll{overflow-x:auto}
.clip{margin-top:1.5rem;break-inside:avoid}
.clip h3{margin:0 0 .4rem}
.strip{display:grid;grid-template-columns:5.6rem minmax(0,1fr);gap:.3rem .6rem;align-items:center;min-width:46rem}
.strip .label{font-size:.8rem;line-height:1.3;color:var(--soft)}
.cells{display:grid;grid-template-columns:repeat(8,minmax(0,1fr));gap:.3rem}
.cells img{display:block;width:100%;height:auto;border-radius:3px}
.cells.times{font-size:.75rem;color:var(--soft)}
.legend{display:grid;grid-template-columns:5.6rem minmax(0,40.4rem);gap:.15rem .6rem;font-size:.86rem;margin-top:.9rem}
.legend dt{font-weight:600}
.legend dd{color:var(--soft)}
.ramp{display:inline-block;width:5.5rem;height:.6rem;border-radius:3px;margin:0 .3rem;vertical-align:-.02em}
.swatch{display:inline-block;width:.75rem;height:.75rem;border:2px solid;border-radius:2px;margin-right:.3rem;
vertical-align:-.08em}
table{border-collapse:collapse;width:100%;font-size:.86rem}
caption{text-align:left;font-weight:600;padding:.2rem 0 .25rem}
th,td{text-align:left;vertical-align:top;padding:.2rem 0;border-top:1px solid var(--hair);line-height:1.4}
th{font-weight:400;color:var(--soft);padding-right:1rem;width:44%;overflow-wrap:anywhere}
td{overflow-wrap:anywhere}
.columns{columns:2 22rem;column-gap:2.2rem}
.columns>div{break-inside:avoid;padding-bottom:.9rem}
.events th{width:auto;white-space:nowrap}
.events td{white-space:nowrap;padding-right:1.1rem}
.events td:last-child{white-space:normal;width:100%;padding-right:0}
details>summary{cursor:pointer;color:var(--c0);font-size:.9rem}
details[open]>summary{margin-bottom:.7rem}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(13.5rem,1fr));gap:.65rem 1.6rem}
.facts div{min-width:0}
.facts dt{font-size:.8rem;color:var(--soft);line-height:1.35}
.facts dd{overflow-wrap:anywhere;line-height:1.4}
@media screen and (max-width:700px){.chart.wide{grid-column:auto}.roomy{display:none}.snug{display:block}
main{padding:1.3rem 1rem 3rem}.tiles{grid-template-columns:1fr 1fr}
h1{font-size:1.5rem}.headline{font-size:1.13rem}
.strip{grid-template-columns:minmax(0,1fr);gap:.15rem}.strip .label{position:sticky;left:0;width:max-content;
max-width:calc(100vw - 2rem);margin-top:.3rem}.strip .label:empty{display:none}
.legend{grid-template-columns:1fr;gap:0}.legend dd{margin-bottom:.5rem}
.events td,.events th{white-space:normal;padding-right:.7rem}
.facts{grid-template-columns:1fr 1fr;gap:.6rem 1rem}}
@media print{@page{margin:14mm}html{font-size:10.5px}
body{font-size:1rem;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:none;padding:0}nav{display:none}.strip{min-width:0}.scroll{overflow:visible}
h2,h3{break-after:avoid}.tile{break-inside:avoid}.tiles{grid-template-columns:repeat(5,1fr)}
.charts{grid-template-columns:1fr 1fr 1fr}details::details-content{content-visibility:visible;height:auto}}
"""
)
