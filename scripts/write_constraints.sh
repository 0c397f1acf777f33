#!/usr/bin/env bash
# Prints constraints.txt: the newest versions that pyproject.toml allows, from a new environment. `make constraints` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$PYTHON" -m venv "$place"
"$place/bin/python" -m pip install --quiet "$TORCH" >&2
"$place/bin/python" -m pip install --quiet ".[test,fan,gcs,az]" >&2
frozen=$("$place/bin/python" -m pip freeze)
cat <<'TOP'
# Versions that `make` installs, for Python 3.11: pip install -c constraints.txt ".[EXTRAS]".
# `make constraints` writes this file: pip freeze of a new environment with the extras test, fan, gcs and az. Left out are
# neuface-ray itself, torch and what only torch brings (TORCH in the Makefile chooses its build), and what only the extra build
# brings (it asks for a newer torch).
TOP
grep -viE '^(neuface-ray|torch|triton|pytorch-triton|nvidia-[a-z0-9-]+|cuda-[a-z]+|sympy|mpmath)([= ]|$)' <<<"$frozen"
