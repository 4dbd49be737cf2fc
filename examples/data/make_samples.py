#!/usr/bin/env python3
"""Writes the sample PDFs of this folder: five small documents about made-up things.

    python3 -m venv venv && venv/bin/pip install reportlab==4.4.4
    venv/bin/python make_samples.py [FOLDER]

Only the fonts every PDF reader has are used, none is embedded. The same input gives the same bytes.
Text, figures and layout are the project's own, under its licence.
"""

import sys
from pathlib import Path

from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.linecharts import HorizontalLineChart
from reportlab.graphics.shapes import Circle, Drawing, Line, Polygon, Rect, String
from reportlab.lib import colors
from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.pagesizes import A4, A5, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import (
    BaseDocTemplate, Frame, FrameBreak, NextPageTemplate, PageBreak, PageTemplate, Paragraph, Spacer, Table, TableStyle,
)

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=14, spaceAfter=6)
HEAD = ParagraphStyle("head", parent=BODY, keepWithNext=1, fontName="Helvetica-Bold", fontSize=14, leading=18, spaceBefore=10)
TITLE = ParagraphStyle("title", parent=HEAD, fontSize=22, leading=28, spaceAfter=10)
SERIF = ParagraphStyle("serif", fontName="Times-Roman", fontSize=11.5, leading=13.5, spaceAfter=5, alignment=TA_JUSTIFY,
                       justifyBreaks=1)
SERIF_HEAD = ParagraphStyle("serif-head", parent=SERIF, keepWithNext=1, fontName="Times-Bold", fontSize=11.5,
                            leading=15, spaceBefore=4)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=8, leading=10, textColor=colors.HexColor("#555555"))
MONO = ParagraphStyle("mono", parent=BODY, fontName="Courier", fontSize=9, leading=12)


def document(name, size, title, templates=None, margin=2 * cm, footer=None):
    doc = BaseDocTemplate(
        str(FOLDER / name), pagesize=size, title=title, author="colqwen-index samples", invariant=1, pageCompression=1,
        leftMargin=margin, rightMargin=margin, topMargin=margin, bottomMargin=margin,
    )

    def foot(canvas, doc):
        if footer:
            canvas.saveState()
            canvas.setFont("Helvetica", 8)
            canvas.setFillColor(colors.HexColor("#555555"))
            canvas.drawString(margin, 0.6 * margin, footer)
            canvas.drawRightString(size[0] - margin, 0.6 * margin, f"Page {doc.page}")
            canvas.restoreState()

    if templates is None:
        frame = Frame(margin, margin, size[0] - 2 * margin, size[1] - 2 * margin, id="page",
                      leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
        templates = [PageTemplate(id="page", frames=[frame], onPage=foot)]
    else:
        for template in templates:
            template.onPage = foot
    doc.addPageTemplates(templates)
    return doc


def table(rows, widths, head=colors.HexColor("#1f4e79"), numbers_from=1):
    made = Table(rows, colWidths=widths, hAlign="LEFT")
    made.setStyle(TableStyle([
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
        ("FONT", (0, 1), (-1, -1), "Helvetica", 9),
        ("BACKGROUND", (0, 0), (-1, 0), head),
        ("TEXTCOLOR", (0, 0), (-1, 0), colors.white),
        ("ALIGN", (numbers_from, 0), (-1, -1), "RIGHT"),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, colors.HexColor("#bbbbbb")),
        ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, colors.HexColor("#f2f6fa")]),
    ]))
    return made


def solar_report():
    """Annual report of a solar plant: a table of months, a bar chart, a page of incidents."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    energy = [182, 265, 471, 618, 742, 801, 823, 734, 559, 366, 203, 149]
    sun = [41, 60, 108, 147, 181, 197, 203, 178, 131, 83, 45, 33]
    doc = document("solar-plant-report.pdf", A4, "Annual report 2024", footer="Hollerau Solar Plant, annual report 2024")
    chart = Drawing(460, 190)
    bars = VerticalBarChart()
    bars.x, bars.y, bars.width, bars.height = 40, 25, 410, 140
    bars.data = [energy]
    bars.categoryAxis.categoryNames = months
    bars.categoryAxis.labels.fontName = bars.valueAxis.labels.fontName = "Helvetica"
    bars.categoryAxis.labels.fontSize = bars.valueAxis.labels.fontSize = 8
    bars.valueAxis.valueMin, bars.valueAxis.valueMax, bars.valueAxis.valueStep = 0, 900, 150
    bars.bars[0].fillColor = colors.HexColor("#f0a830")
    bars.bars[0].strokeColor = None
    chart.add(bars)
    chart.add(String(40, 175, "Energy fed into the grid, MWh per month", fontName="Helvetica-Bold", fontSize=9))
    plan = Drawing(460, 150)
    for i in range(36):
        hit = 29 <= i <= 35
        x, y = 20 + (i % 12) * 34, 100 - (i // 12) * 38
        plan.add(Rect(x, y, 30, 26, fillColor=colors.HexColor("#d05030" if hit else "#35506b"), strokeColor=None))
        plan.add(String(x + 15, y + 9, str(i + 1), fontName="Helvetica", fontSize=8, fillColor=colors.white, textAnchor="middle"))
    plan.add(String(20, 132, "Rows of modules; those hit by hail are red", fontName="Helvetica-Bold", fontSize=9))
    rows = [["Month", "Energy (MWh)", "Irradiation (kWh/m²)", "Availability (%)"]]
    availability = [99.1, 99.4, 99.6, 97.2, 99.8, 99.9, 99.7, 96.3, 99.5, 99.2, 98.8, 98.1]
    rows += [[m, str(e), str(s), f"{a:.1f}"] for m, e, s, a in zip(months, energy, sun, availability)]
    rows.append(["Total", f"{sum(energy):,}", f"{sum(sun):,}", "98.9"])
    doc.build([
        Paragraph("Hollerau Solar Plant", TITLE),
        Paragraph("Annual report 2024", HEAD),
        Paragraph(
            "The plant fed 5,913 megawatt hours into the grid, four percent more than in 2023. July was the strongest "
            "month; the sunniest day was 24 June. Two inverter failures in April and a hailstorm in August cost 71 "
            "megawatt hours together.", BODY),
        chart,
        Paragraph("The chart shows the months; the figures stand in the table on the next page.", SMALL),
        Paragraph("Outlook", HEAD),
        Paragraph(
            "In spring 2025 the eastern field receives trackers with a single axis. They follow the sun from morning "
            "to evening and should raise the yield of that field by a sixth. A battery of two megawatt hours is "
            "planned for 2026 and waits for the permit of the municipality.", BODY),
        PageBreak(),
        Paragraph("Production by month", HEAD),
        table(rows, [3 * cm, 3.6 * cm, 4.4 * cm, 3.8 * cm]),
        Spacer(1, 10),
        Paragraph("Incidents", HEAD),
        Paragraph(
            "<b>11 April.</b> Inverter 7 shut down after a cooling fan seized. The fan was replaced under warranty; "
            "inverter 8 showed the same wear and was repaired the same week.", BODY),
        Paragraph(
            "<b>19 August.</b> Hail of three centimetres broke 214 modules in rows 30 to 36. The insurer paid 38,500 "
            "euros; the sheep that graze between the rows were in their shelter and came to no harm.", BODY),
        Paragraph(
            "<b>2 December.</b> A marten bit through a string cable. A metal mesh now closes the cable duct.", BODY),
        plan,
    ])


def coffee_manual():
    """Manual of an espresso machine: a labelled drawing, steps, a table of troubles."""
    doc = document("espresso-machine-manual.pdf", A5, "Brunetta 300 manual", margin=1.5 * cm,
                   footer="Brunetta 300 instructions")
    red, steel = colors.HexColor("#a02020"), colors.HexColor("#c8ccd0")
    drawing = Drawing(320, 200)
    for shape in [
        Rect(60, 20, 150, 20, fillColor=steel, strokeColor=colors.black),
        Rect(60, 40, 50, 110, fillColor=red, strokeColor=colors.black),
        Rect(60, 150, 150, 35, fillColor=red, strokeColor=colors.black),
        Rect(140, 128, 42, 22, fillColor=steel, strokeColor=colors.black),
        Rect(182, 134, 50, 9, fillColor=colors.black),
        Polygon([145, 60, 178, 60, 172, 90, 151, 90], fillColor=colors.white, strokeColor=colors.black),
        Circle(85, 168, 10, fillColor=colors.white, strokeColor=colors.black),
        Line(85, 168, 91, 174, strokeWidth=1.5),
    ]:
        drawing.add(shape)
    for x, y, x2, y2, text in [
        (20, 190, 80, 175, "1 pressure gauge"), (235, 160, 170, 140, "2 brew group"),
        (235, 120, 225, 136, "3 portafilter"), (235, 70, 176, 75, "4 cup"), (235, 35, 205, 30, "5 drip tray"),
    ]:
        drawing.add(Line(x + (0 if x > 100 else 60), y, x2, y2, strokeColor=colors.grey))
        drawing.add(String(x, y - 3 if x > 100 else y + 4, text, fontName="Helvetica", fontSize=8))
    steps = [
        "Fill the tank with fresh water up to the mark MAX and switch the machine on.",
        "Wait until the lamp stops blinking: the boiler is then at 93 °C.",
        "Grind 18 grams of coffee finely, level it in the portafilter and tamp it firmly.",
        "Lock the portafilter into the brew group and press the cup button.",
        "Stop after 25 to 30 seconds; the cup then holds about 36 grams of espresso.",
    ]
    troubles = [
        ["What happens", "What to do"],
        ["The coffee runs too fast", "Grind finer or tamp harder"],
        ["The coffee only drips", "Grind coarser; clean the sieve"],
        ["The gauge stays below 8 bar", "Descale; check the pump seal"],
        ["Water under the machine", "Empty the drip tray"],
        ["The lamp blinks red", "Unplug and call the service"],
    ]
    doc.build([
        Paragraph("Brunetta 300", TITLE),
        Paragraph("Espresso machine: how to use it", HEAD),
        drawing,
        Paragraph("Keep children away from the steam wand. Never open the boiler while it is hot.", BODY),
        PageBreak(),
        Paragraph("Your first espresso", HEAD),
        *[Paragraph(f"{number}. {step}", BODY) for number, step in enumerate(steps, 1)],
        Paragraph("Descaling", HEAD),
        Paragraph(
            "Descale every two months, more often where the water is hard. Dissolve 30 grams of citric acid in a litre "
            "of water, run half of it through the brew group, wait fifteen minutes and run the rest. Rinse with two "
            "full tanks.", BODY),
        Paragraph("If something goes wrong", HEAD),
        table(troubles, [5.4 * cm, 5.8 * cm], head=red, numbers_from=9),
    ])


def research_note():
    """A note in two justified columns with words broken at line ends, and a line chart."""
    width, height = LETTER
    margin, gutter = 1.9 * cm, 0.7 * cm
    column = (width - 2 * margin - gutter) / 2
    body = height - 2 * margin

    def columns(top, first):
        frames = [
            Frame(margin + i * (column + gutter), margin, column, body - top, id=f"c{i}", leftPadding=0,
                  rightPadding=0, topPadding=0, bottomPadding=0)
            for i in range(2)
        ]
        if first:
            head = Frame(margin, height - margin - top, width - 2 * margin, top, id="head", leftPadding=0,
                         rightPadding=0, topPadding=0, bottomPadding=0)
            frames.insert(0, head)
        return frames

    doc = document(
        "glow-worm-note.pdf", LETTER, "Street lamps and glow-worms", margin=margin,
        templates=[PageTemplate("first", columns(3.4 * cm, True)), PageTemplate("later", columns(0, False))],
        footer="Notes on nocturnal insects 12 (2023)",
    )
    note = [
        ("1 Introduction", None),
        (None, "Female glow-worms do not fly. They climb a blade of grass at dusk and shine for the males that pass "
               "over\u00adhead. Any bright\u00ader light near-by com\u00adpetes with that signal. We asked how far from a lamp the "
               "ani\u00admals still find each other, and wheth\u00ader a warmer colour of light makes a differ\u00adence."),
        (None, "Earlier work counted females only. Count\u00ading is easy, be\u00adcause a female that has mated puts out her "
               "light; a female that still shines after mid\u00adnight has found no mate. We use this as a mea\u00adsure."),
        ("2 Method", None),
        (None, "Be\u00adtween June and July we walked forty tran\u00adsects of one hun\u00addred metres along the dyke at "
               "Wester\u00adholm, start\u00ading at a street lamp and lead\u00ading away from it. Twenty lamps were cold white "
               "(4000 kelvin), twenty amber (1800 kelvin). Every transect was walked at half past ten and again at "
               "one o\u2019clock. Each shining female was mark\u00aded with a num\u00adbered stick; the distance to the lamp "
               "was mea\u00adsured on the next day."),
        (None, "Rain, wind above five metres per second and the three nights around the full moon were left out. The "
               "grass was not mown during the exper\u00adi\u00adment; the water board had kind\u00adly agreed."),
        ("3 Results", None),
        (None, "We found 612 females. Un\u00adder white lamps, 58 per\u00adcent of those within twenty metres still shone at "
               "one o\u2019clock, under amber lamps 31 percent. Beyond sixty metres the colour made no diff\u00aderence and "
               "about one in ten re\u00admained with\u00adout a mate. The figure shows both curves."),
    ]
    after = [
        ("4 Discussion", None),
        (None, "A single white lamp thus ster\u00adi\u00adlises a strip of some forty metres of verge. Amber light halves the loss "
               "but does not undo it. Since most lamps along the dyke serve nobody after mid\u00adnight, switch\u00ading "
               "them off is both cheap\u00ader and better than any change of colour."),
        (None, "Our counts say nothing about the males, which may be drawn to the lamps and die there. A trap "
               "experi\u00adment with lumi\u00adnous decoys is under way and will be re\u00adported next year."),
        ("Acknowledgements", None),
        (None, "We thank the water board of Westerholm for un\u00admown grass, and eleven volun\u00adteers for their "
               "nights."),
        ("References", None),
        (None, "[1] A. Veldhuis, The courtship of glow-worms, Journal of Dyke Biology 4 (2011) 17\u201333."),
        (None, "[2] M. Oduya and P. Lind, Lamps that serve nobody, Proceedings of the Night Sky Meeting (2019)."),
    ]

    def broken(text):
        """The text with its line ends, breaking words at soft hyphens."""
        lines, line = [], ""
        for word in text.split(" "):
            parts = word.split("\u00ad")
            for cut in range(len(parts), -1, -1):
                first = "".join(parts[:cut]) + ("-" if 0 < cut < len(parts) else "")
                tried = f"{line} {first}".strip()
                if stringWidth(tried, SERIF.fontName, SERIF.fontSize) <= column:
                    break
            if cut == len(parts):
                line = tried
            else:
                lines.append(tried)
                line = "".join(parts[cut:])
        return "<br/>".join([*lines, line])

    def paragraphs(parts):
        for head, text in parts:
            if head:
                yield Paragraph(head, SERIF_HEAD)
            if text:
                yield Paragraph(broken(text), SERIF)

    chart = Drawing(column, 150)
    lines = HorizontalLineChart()
    lines.x, lines.y, lines.width, lines.height = 28, 22, column - 40, 105
    lines.data = [[61, 55, 38, 22, 13, 10], [34, 28, 21, 15, 11, 10]]
    lines.categoryAxis.categoryNames = ["10", "20", "30", "40", "50", "60"]
    lines.valueAxis.valueMin, lines.valueAxis.valueMax, lines.valueAxis.valueStep = 0, 70, 10
    for axis in (lines.categoryAxis, lines.valueAxis):
        axis.labels.fontName, axis.labels.fontSize = "Times-Roman", 8
    lines.lines[0].strokeColor, lines.lines[1].strokeColor = colors.HexColor("#3060c0"), colors.HexColor("#e08000")
    lines.lines[0].strokeWidth = lines.lines[1].strokeWidth = 1.5
    chart.add(lines)
    chart.add(String(60, 132, "Unmated females (%) by distance (m)", fontName="Times-Bold", fontSize=8.5))
    chart.add(String(column - 70, 105, "white lamps", fontName="Times-Roman", fontSize=8, fillColor=colors.HexColor("#3060c0")))
    chart.add(String(column - 70, 94, "amber lamps", fontName="Times-Roman", fontSize=8, fillColor=colors.HexColor("#e08000")))

    title = ParagraphStyle("note-title", parent=SERIF, fontName="Times-Bold", fontSize=17, leading=21, alignment=1)
    by = ParagraphStyle("note-by", parent=SERIF, alignment=1, fontSize=10, leading=14)
    doc.build([
        NextPageTemplate("later"),
        Paragraph("How far does a street lamp reach?<br/>Mating success of glow-worms along a lit dyke", title),
        Spacer(1, 6),
        Paragraph("Ida Marten and Tomas Reuss, Field Station Westerholm", by),
        FrameBreak(),
        *paragraphs(note), chart, *paragraphs(after),
    ])


def recipes():
    """A booklet of two recipes on small pages."""
    size = (A5[0], A5[1])
    doc = document("pantry-recipes.pdf", size, "Two recipes from the pantry", margin=1.6 * cm, footer="Two recipes from the pantry")
    green = colors.HexColor("#3a6b35")
    head = ParagraphStyle("recipe", parent=TITLE, fontName="Times-BoldItalic", textColor=green)
    text = ParagraphStyle("recipe-text", parent=SERIF, fontSize=11, leading=15, alignment=0)

    pot = Drawing(250, 90)
    pot.add(Rect(60, 10, 120, 60, rx=14, fillColor=colors.HexColor("#b5532a"), strokeColor=None))
    pot.add(Rect(50, 64, 140, 9, rx=4, fillColor=colors.HexColor("#8a3c1c"), strokeColor=None))
    pot.add(Rect(40, 40, 20, 8, fillColor=colors.black, strokeColor=None))
    pot.add(Rect(180, 40, 20, 8, fillColor=colors.black, strokeColor=None))
    for i in range(7):
        pot.add(Circle(72 + 16 * i, 77, 6, fillColor=colors.HexColor("#e8c877"), strokeColor=colors.HexColor("#a8863a")))
    cake = Drawing(250, 90)
    cake.add(Rect(30, 8, 190, 72, fillColor=colors.HexColor("#e5bf80"), strokeColor=colors.HexColor("#8a6a30")))
    for i in range(27):
        cake.add(Circle(45 + (i % 9) * 20, 22 + (i // 9) * 22, 8, fillColor=colors.HexColor("#6a2c6e"), strokeColor=None))

    def recipe(name, about, picture, ingredients, steps):
        rows = [["Amount", "Ingredient"]] + ingredients
        made = Table(rows, colWidths=[2.6 * cm, 7 * cm], hAlign="LEFT")
        made.setStyle(TableStyle([
            ("FONT", (0, 0), (-1, 0), "Times-Bold", 10), ("FONT", (0, 1), (-1, -1), "Times-Roman", 10),
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, green), ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]))
        return [Paragraph(name, head), Paragraph(about, text), picture, made, Spacer(1, 8), *[Paragraph(s, text) for s in steps]]

    doc.build([
        *recipe(
            "Chickpea stew with lemon", "Serves four. Half an hour, one pot.", pot,
            [["800 g", "cooked chickpeas"], ["2", "onions, sliced"], ["3 cloves", "garlic"], ["1", "preserved lemon"],
             ["1 tsp", "smoked paprika"], ["400 ml", "vegetable stock"], ["a handful", "parsley"]],
            ["Soften the onions in olive oil until they are golden, then add garlic and paprika.",
             "Pour in the stock, add the chickpeas and simmer for fifteen minutes. Crush a third of them with a fork "
             "to thicken the stew.",
             "Chop the lemon, stir it in with the parsley and serve with flat bread."],
        ),
        PageBreak(),
        *recipe(
            "Plum cake from a tin", "Makes twelve pieces. Best on the second day.", cake,
            [["1 kg", "plums, halved"], ["375 g", "spelt flour"], ["20 g", "fresh yeast"], ["180 ml", "lukewarm milk"],
             ["75 g", "butter"], ["60 g", "sugar"], ["1 tsp", "cinnamon"]],
            ["Crumble the yeast into the milk, add flour, butter and half the sugar, and knead for ten minutes. Let "
             "the dough rise for an hour.",
             "Roll it out on a tin, lay the plums on it like roof tiles and bake at 190 °C for 35 minutes.",
             "Mix cinnamon with the remaining sugar and strew it over the hot cake."],
        ),
    ])


def hiking_guide():
    """A walk on landscape pages: its profile, a table of waypoints, a map."""
    size = (A4[1], A4[0])
    doc = document("tarn-ridge-walk.pdf", size, "The Tarn Ridge walk", footer="Walks around Skarvik, number 14")
    blue = colors.HexColor("#2a6f97")
    profile = Drawing(600, 150)
    heights = [120, 180, 310, 460, 590, 742, 700, 655, 520, 340, 210, 125]
    points = [(30 + i * 50, 20 + h / 742 * 110) for i, h in enumerate(heights)]
    outline = [30, 20] + [v for p in points for v in p] + [30 + 11 * 50, 20]
    profile.add(Polygon(outline, fillColor=colors.HexColor("#bcd9c6"), strokeColor=blue))
    for i in range(12):
        profile.add(String(30 + i * 50, 6, f"{i * 1.4:.1f}", fontName="Helvetica", fontSize=8, textAnchor="middle"))
    profile.add(String(285, 134, "Cairn, 742 m", fontName="Helvetica-Bold", fontSize=9))
    profile.add(String(34, 134, "Height profile, kilometres from the harbour", fontName="Helvetica", fontSize=9))
    map_ = Drawing(700, 210)
    water, path = colors.HexColor("#cfe6f5"), colors.HexColor("#d04030")
    map_.add(Rect(0, 0, 700, 205, fillColor=colors.HexColor("#edf3e4"), strokeColor=colors.grey))
    map_.add(Polygon([0, 0, 0, 60, 90, 45, 170, 62, 260, 30, 300, 0], fillColor=water, strokeColor=None))
    map_.add(Circle(392, 118, 16, fillColor=water, strokeColor=None))
    map_.add(Circle(330, 92, 10, fillColor=water, strokeColor=None))
    stations = [(150, 66), (250, 80), (410, 142), (470, 170), (590, 110), (480, 60), (300, 50), (150, 66)]
    for (x, y), (x2, y2) in zip(stations, stations[1:]):
        map_.add(Line(x, y, x2, y2, strokeColor=path, strokeWidth=2, strokeDashArray=[5, 3]))
    for x, y, text in [(60, 20, "Sound of Skarvik"), (100, 74, "harbour"), (225, 90, "birch gate"), (345, 74, "lower tarn"),
                       (348, 142, "upper tarn"), (452, 180, "ridge cairn"), (600, 106, "shepherd's hut"), (492, 48, "boards")]:
        map_.add(String(x, y, text, fontName="Helvetica-Oblique", fontSize=9))
    for x, y in stations[:6]:
        map_.add(Circle(x, y, 3.5, fillColor=path, strokeColor=colors.white))
    times = [
        ["Waypoint", "Height (m)", "Distance (km)", "Time (h:min)"],
        ["Skarvik harbour", "120", "0.0", "0:00"], ["Birch gate", "310", "2.8", "0:55"], ["Upper tarn", "590", "5.6", "2:10"],
        ["Ridge cairn", "742", "7.0", "2:55"], ["Shepherd's hut", "520", "11.2", "4:05"], ["Skarvik harbour", "125", "15.4", "5:20"],
    ]
    doc.build([
        Paragraph("The Tarn Ridge walk", TITLE),
        Paragraph(
            "A round of 15.4 kilometres over the ridge above Skarvik, with two tarns and a view across the sound. "
            "Allow five and a half hours without rests. The path is marked with blue dots; in fog the ridge is hard to "
            "follow and a compass is needed.", BODY),
        profile,
        table(times, [5 * cm, 3.2 * cm, 3.6 * cm, 3.4 * cm], head=blue),
        PageBreak(),
        Paragraph("Map", HEAD),
        map_,
        Paragraph("Getting there and staying safe", HEAD),
        Paragraph(
            "Bus 27 runs from the railway station to the harbour every hour until seven in the evening. Drivers leave "
            "their cars behind the fish market; the quay is private.", BODY),
        Paragraph(
            "Cloudberries ripen on the bog below the upper tarn in late August. Keep to the boards there: the moss "
            "beside them does not bear a person. From May to mid-June the eastern face is closed for nesting "
            "peregrines.", BODY),
        Paragraph("The shepherd's hut is open all year and has a stove, six bunks and no water. Emergency number: 112.", BODY),
    ])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make in (solar_report, coffee_manual, research_note, recipes, hiking_guide):
        make()
    for path in sorted(FOLDER.glob("*.pdf")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
