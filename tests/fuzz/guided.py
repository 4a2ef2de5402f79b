"""`python -m fuzz.guided TARGET …`: one target under atheris, with the arguments of libFuzzer; it never returns."""

import sys

import atheris

with atheris.instrument_imports(include=['natsgate', 'fuzz']):
    from fuzz.targets import TARGETS

if __name__ == '__main__':
    check = TARGETS[sys.argv[1]].check
    atheris.Setup([sys.argv[0], *sys.argv[2:]], check)
    atheris.Fuzz()
