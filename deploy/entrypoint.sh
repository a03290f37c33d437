#!/bin/sh
# Secrets come as files: where NAME_FILE is set, NAME is what that file holds.
set -eu
for name in PGPASSWORD RETUNE_DATABASE RETUNE_VLLM_KEY; do
    file=$(printenv "${name}_FILE" || true)
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
    fi
done
exec "$@"
