#!/usr/bin/env bash
# Starts Ray on a machine that you own, with token authentication.
#
#   cluster/node.sh head [IP]              the first machine; makes the token on first use
#   cluster/node.sh worker HEAD_IP[:PORT]  every other machine; needs a copy of the head's token file
#
# Then, on the head: ray job submit --address http://127.0.0.1:8265 --working-dir . -- python jobs/annotate.py ...
#
# The token lies in RAY_AUTH_TOKEN_PATH (default ~/.neuface-ray/token); whoever has it can run code on the cluster. It does not
# encrypt: keep the cluster's ports inside a private network. The dashboard listens on the head's loopback interface only; reach
# it from elsewhere through an ssh tunnel. Further arguments go to `ray start`. Ctrl-C stops this node.
set -euo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 1 ] || usage
role=$1; shift

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.neuface-ray/token}

case $role in
  head)
    if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
      mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
      (umask 077; python3 -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH")
      echo "made the token $RAY_AUTH_TOKEN_PATH; copy it to every worker"
    fi
    address=()
    case ${1:-} in ""|-*) ;; *) address=(--node-ip-address "$1"); shift ;; esac
    exec ray start --head --block --dashboard-host 127.0.0.1 "${address[@]}" "$@" ;;
  worker)
    [ $# -ge 1 ] || usage
    [ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "error: no token at $RAY_AUTH_TOKEN_PATH; copy it from the head" >&2; exit 2; }
    head=$1; shift
    case $head in *:*) ;; *) head=$head:6379 ;; esac
    exec ray start --block --address "$head" "$@" ;;
  *) usage ;;
esac
