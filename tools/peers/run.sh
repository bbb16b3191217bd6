#!/bin/sh
# run.sh BUILD/quern [CHECKPOINT...]: quantizes the checkpoints with Quern, lets llama.cpp and mlx-lm continue fixed prompts on the files, and writes
# tests/data/peers/*.json and docs/peers.md. The peers live in build/peers/venv; QUERN_PEERS_PYTHON names another Python that has them.
set -eu
quern=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
python=${QUERN_PEERS_PYTHON:-build/peers/venv/bin/python}
if [ ! -x "$python" ]; then
    echo "peers: making build/peers/venv (llama-cpp-python is compiled there, which takes some minutes)"
    python3 -m venv build/peers/venv
    CMAKE_ARGS="-DGGML_NATIVE=ON" build/peers/venv/bin/pip install --quiet -r tools/peers/requirements.txt
fi
exec "$python" tools/peers/record.py "$quern" "$@"
