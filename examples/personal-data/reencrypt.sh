#!/bin/sh
# Moves every row to the newest versions of its tenant's key, inside the agent. May be interrupted and run again, by several
# processes at once; options go to each call: --dry-run, --verify, --again, --rate-limit N.
set -eu
for column in name email phone address; do
  dekd reencrypt --key people --partition-column tenant --table people --column "$column" \
    --context table=people --context-column person=id --context "field=$column" "$@"
done
