"""The look of the report and of what the app takes from it: one style sheet, two palettes."""

from __future__ import annotations

from tamis.reports import figures

TINTS_LIGHT = {"tint-bad": "#fdf1f1", "tint-good": "#eefaf1", "tint-unsure": "#fff6e8", "card": "#ffffff"}
TINTS_DARK = {"tint-bad": "#341a1f", "tint-good": "#12291c", "tint-unsure": "#33250f", "card": "#111c31"}


def page_css() -> str:
    """For the one-file report: light, dark where the reader's screen is, always light on paper."""
    return (
        f":root{{{_tokens(figures.LIGHT | TINTS_LIGHT)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{_tokens(figures.DARK | TINTS_DARK)}}}"
        f"{figures.style(figures.DARK)}}}{_PAGE}{_squeezed(_RULES)}"
        f"@media screen and (max-width:900px){{{_squeezed(_NARROW)}}}"
    )


def part_css() -> str:
    """For a section inside the app: the `color-scheme` of Streamlit's theme decides, also when it turns later."""
    light, dark = figures.LIGHT | TINTS_LIGHT, figures.DARK | TINTS_DARK
    both = {name: f"light-dark({colour},{dark[name]})" for name, colour in light.items()}
    recolour = figures.style({role: both[role] for role in figures.LIGHT})
    narrow = f"@container (max-width:960px){{{_squeezed(_NARROW)}}}"
    return f":host{{{_tokens(both)}color:var(--ink)}}{recolour}{_squeezed(_RULES + _IN_APP)}{narrow}"


def _tokens(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


def _squeezed(rules: str) -> str:
    return " ".join(rules.split())


_FONT = 'font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;'
_PAGE = f"body{{margin:0;background:var(--ground);color:var(--ink);{_FONT}}}"
# For tables with little room: that of the window on a page, that of the section beside the app's sidebar.
_NARROW = """
th,td{padding:7px 8px}tbody th{min-width:120px}table.dense{font-size:12.5px}
table.dense th,table.dense td{padding:6px 5px}table.dense .nowrap{white-space:normal}
table.dense tbody th{min-width:96px}table.dense small{font-size:11.5px}
"""
# The app's own typeface and sizes, so that a section and a heading of Streamlit's look like one page.
_IN_APP = """
.tall .scroll{max-height:440px;overflow-y:auto}.tall thead th{position:sticky;top:0;background:var(--ground)}
.scroll{container-type:inline-size}
svg.fig{font-family:inherit}h2{font-size:1.2rem;font-weight:600}.tamis{font-size:15px;line-height:1.5}
"""
_RULES = """
*{box-sizing:border-box}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:24px;line-height:1.25;margin:0 0 4px}h2{font-size:17px;margin:0 0 10px}
header p{margin:0 0 18px}section{margin:0 0 30px}
.muted{color:var(--muted)}.thin{font-weight:400;color:var(--muted)}.nowrap{white-space:nowrap}
.t-good{color:var(--good)}.t-bad{color:var(--bad)}.t-unsure{color:var(--unsure)}.t-muted{color:var(--muted)}
.banner{border-left:6px solid;border-radius:6px;padding:16px 20px}
.banner.good{border-color:var(--good);background:var(--tint-good)}
.banner.bad{border-color:var(--bad);background:var(--tint-bad)}
.banner.unsure{border-color:var(--unsure);background:var(--tint-unsure)}
.banner .verdict{margin:0 0 6px}.banner .verdict strong{font-size:26px;margin-right:10px}
.banner.good strong{color:var(--good)}.banner.bad strong{color:var(--bad)}.banner.unsure strong{color:var(--unsure)}
.banner .finding{font-size:17px;margin:0}.banner ul{margin:10px 0 0;padding-left:20px}
.problems{border:1px solid var(--unsure);border-radius:6px;padding:14px 20px}.problems ul{margin:0;padding-left:20px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
table.dense{font-size:13.5px}table.dense th,table.dense td{padding:7px 7px}
caption{text-align:left;color:var(--muted);padding:0 0 6px;caption-side:top}
th,td{text-align:left;vertical-align:top;padding:8px 10px;border-bottom:1px solid var(--grid)}
thead th{color:var(--muted);font-weight:600;vertical-align:bottom}tbody th{font-weight:400;min-width:150px}
tr.noted>*{border-bottom:0;padding-bottom:2px}td.more{padding-top:0;color:var(--muted)}
small{font-size:12.5px}
.num{text-align:right}td.num{font-variant-numeric:tabular-nums}
.lever{margin-top:4px}.note{border-left:3px solid var(--unsure);padding-left:12px;margin:12px 0 0}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:34px}
figure{margin:0;min-width:0}svg.fig{display:block;width:100%;height:auto;max-width:640px}
details.ex{border:1px solid var(--grid);border-radius:6px;margin:0 0 8px;background:var(--card)}
summary{cursor:pointer;padding:7px 12px;overflow-wrap:anywhere}
details.ex[open]>summary{border-bottom:1px solid var(--grid)}
figure summary,td summary{padding:4px 0;color:var(--muted)}
details.ex dl,dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:6px 16px;margin:12px 16px}
dl.facts{margin:4px 0 12px}details.ex>p{margin:0 16px 12px}
dt{color:var(--muted)}dd{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;min-width:0}
.badge{border:1px solid;border-radius:99px;padding:0 8px;font-size:12.5px;white-space:nowrap;margin-right:6px}
ins{color:var(--bad);text-decoration:underline;text-decoration-thickness:2px}
del{color:var(--muted)}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Consolas,monospace;font-size:13px;overflow-wrap:anywhere}
pre{white-space:pre-wrap;border:1px solid var(--grid);border-radius:6px;padding:12px 14px;margin:0}
:focus-visible{outline:3px solid var(--candidate);outline-offset:2px}
@media print{main{max-width:none;padding:0}section,figure,tr,details{break-inside:avoid}details.ex{border:0}
  body{font-size:11pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
