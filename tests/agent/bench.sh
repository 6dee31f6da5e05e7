#!/bin/sh
# Prints how many MB of logs the agent takes to a real server a second of processor
# time, without stages and with cri, json and labels; and, given a duration, its
# memory every ten seconds for as long.
#
#   tests/agent/bench.sh [MB] [DURATION]     as tests/agent/bench.sh 400 10m
set -e
cd "$(dirname "$0")/../.."
WEIR_AGENT_BENCH=${1:-400} WEIR_AGENT_SOAK=${2:-0s} \
	go test ./tests/agent -count=1 -timeout 60m -v -run 'TestThroughput|TestMemoryFlat' |
	grep -E 'MB|^(---|ok|FAIL|PASS)'
