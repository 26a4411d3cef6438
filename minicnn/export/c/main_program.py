"""The optional program in the C file, which reads an image and prints the scores."""

import re
from math import prod

from minicnn.model import Model

from .text import Lines

#: By channels of an image: the format of netpbm that has them, and its magic number.
FORMATS = {1: ("PGM", "P5"), 3: ("PPM", "P6")}

PROGRAM = """\
#ifdef MACRO_MAIN
/* The next number in the header of a FORMAT file, where # begins a comment; -1 if there is none. */
static int NAME_header_number(FILE *file)
{
    char mark[2];
    int value;
    while (fscanf(file, " %1[#]%*[^\\n]", mark) == 1) {
    }
    return fscanf(file, "%6d", &value) == 1 && fgetc(file) != EOF ? value : -1;
}

/* Reads a FORMAT file (MAGIC) of COLUMNS x ROWS pixels with values up to 255; returns 0, or 1 if it is none. */
static int NAME_read(const char *path, uint8_t *pixels)
{
    FILE *file = fopen(path, "rb");
    int bad = !file || fgetc(file) != 'P' || fgetc(file) != 'DIGIT';
    bad = bad || NAME_header_number(file) != COLUMNS || NAME_header_number(file) != ROWS;
    bad = bad || NAME_header_number(file) != 255;
    for (int k = 0; !bad && k < PLACES; k++) {
        for (int c = 0; c < CHANNELS; c++) {
            int value = fgetc(file);
            bad = bad || value == EOF;
            pixels[c * PLACES + k] = (uint8_t)value;
        }
    }
    if (file) {
        fclose(file);
    }
    return bad;
}

int main(int count, char **arguments)
{
    static uint8_t pixels[MACRO_PIXELS];
    static float scores[MACRO_SCORES];
    int best = 0;
    if (count != 2) {
        fprintf(stderr, "usage: %s IMAGE.SUFFIX\\n", count ? arguments[0] : "NAME");
        return 2;
    }
    if (NAME_read(arguments[1], pixels)) {
        fprintf(stderr, "%s: expected a FORMAT file (MAGIC) of COLUMNS x ROWS pixels, up to 255\\n", arguments[1]);
        return 1;
    }
    NAME_predict(pixels, scores);
    for (int k = 0; k < MACRO_SCORES; k++) {
        printf(PRINT);
        best = scores[k] > scores[best] ? k : best;
    }
    printf(RESULT);
    return 0;
}
#endif"""


def main_program(model: Model, name: str) -> Lines:
    """The program, or a comment for a model whose input is no grey or RGB image."""
    if len(model.input_shape) != 3 or model.input_shape[0] not in FORMATS:
        return [f"/* There is no program with {name.upper()}_MAIN: PGM and PPM files do not hold such an input. */"]
    channels, rows, columns = model.input_shape
    kind, magic = FORMATS[channels]
    classes = name + "_classes[{}]" if model.classes else None
    words = {
        "PRINT": f'"%s: %.6g\\n", {classes.format("k")}, scores[k]' if classes else '"%d: %.6g\\n", k, scores[k]',
        "RESULT": f'"%s\\n", {classes.format("best")}' if classes else '"%d\\n", best',
        "FORMAT": kind,
        "MAGIC": magic,
        "DIGIT": magic[1],
        "SUFFIX": kind.lower(),
        "PLACES": prod((rows, columns)),
        "CHANNELS": channels,
        "COLUMNS": columns,
        "ROWS": rows,
        "MACRO": name.upper(),
        "NAME": name,
    }
    return re.sub("|".join(words), lambda word: str(words[word[0]]), PROGRAM).split("\n")
