"""Print a diagnosis in columns."""

from typing import TYPE_CHECKING

from speechbrain_birq.decoding.decoders import WORTHLESS_CER

if TYPE_CHECKING:
    from speechbrain_birq.diagnostics.diagnose import Diagnosis


# Figure -> its title, and the form of its values, whose width is that of the column.
COLUMNS = {
    "used_codes": ("used", "8.1f"),
    "perplexity": ("perpl.", "8.1f"),
    "top_share": ("top %", "8.1%"),
    "silent_share": ("silent %", "9.1%"),
    "run_length": ("run", "6.2f"),
    "churn": ("churn %", "8.1%"),
    "agreement": ("agree %", "8.1%"),
    "mutual_information": ("MI, nats", "9.2f"),
    "mutual_information_chance": ("chance", "7.2f"),
    "pnmi": ("PNMI", "6.3f"),
    "chance": ("chance", "7.3f"),
    "phone_purity": ("{unit} pur.", "15.3f"),
    "cluster_purity": ("cluster pur.", "13.3f"),
}


def table(diagnosis: "Diagnosis") -> str:
    """Format the figures in columns, with what is needed to read them."""
    unit, cer = diagnosis.unit, diagnosis.alignment_cer
    titles = (
        title.format(unit=unit).rjust(_width(form)) for title, form in COLUMNS.values()
    )
    lines = [f"{'labels':18}{''.join(titles)}"]
    for name, row in diagnosis.rows.items():
        cells = (_cell(row[key], form) for key, (_, form) in COLUMNS.items())
        lines.append(f"{name:18}{''.join(cells)}")
    lines.append(
        "silent: frames in codes that mostly stand for silence. run: frames that a "
        "code lasts. agree, MI: with\nthe anchor labels. churn: frames whose label "
        "has changed since the previous checkpoint."
    )
    lines.append(
        f"{diagnosis.frames} frames of {diagnosis.utterances} utterances. On few "
        f"frames MI and PNMI grow with the used codes:\nchance is their value with the "
        f"labels, or the {unit}s, shuffled."
    )
    if cer is not None and cer > WORTHLESS_CER:
        lines.append(
            f"The texts were aligned by a run with CER {cer:.1f} %: most characters "
            f"are wrong, so PNMI and\npurity say little. Give a better run with "
            f"--alignment."
        )
    return "\n".join(lines)


def _cell(value, form):
    text = "-" if value is None else f"{value:{form}}".rstrip("%")
    return text.rjust(_width(form))


def _width(form):
    return int(form.split(".")[0])
