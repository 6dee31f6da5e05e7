#!/usr/bin/env bash
# compose.sh up|down|ARGUMENTS…: docker compose (or docker-compose) on a cluster of
# this directory. up returns when all containers are healthy, down removes the
# containers, their network and their data. LAYOUT chooses the file: cluster (the
# default), one-node or three-node; WEIR_COMPOSE_OVERRIDE names one more file.
set -euo pipefail
cd "$(dirname "$0")"

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  echo "neither docker compose nor docker-compose is installed" >&2
  exit 1
fi
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-weir}
case ${LAYOUT:-cluster} in
cluster) file=docker-compose.yaml ;;
one-node | three-node) file=$LAYOUT.yaml ;;
*)
  echo "LAYOUT is $LAYOUT, want cluster, one-node or three-node" >&2
  exit 2
  ;;
esac
compose+=(--file "$file")
[[ -z ${WEIR_COMPOSE_OVERRIDE:-} ]] || compose+=(--file "$WEIR_COMPOSE_OVERRIDE")

# The agent gets the group that may use the engine's socket.
socket=${WEIR_DOCKER_SOCKET:-/var/run/docker.sock}
if [[ -z ${WEIR_DOCKER_GROUP:-} && -S $socket ]]; then
  WEIR_DOCKER_GROUP=$(stat -L -c %g "$socket" 2>/dev/null || stat -L -f %g "$socket")
  export WEIR_DOCKER_GROUP
fi

# left prints what there is of the project, whatever layout it is of.
left() { # left container|volume|network
  local quiet=-q
  [[ $1 != container ]] || quiet=-aq
  docker "$1" ls $quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"
}

# state prints "NAME STATE HEALTH" of every container.
state() {
  local ids
  ids=$(left container)
  [[ -n $ids ]] || return 0
  # shellcheck disable=SC2086
  docker inspect --format '{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}' $ids
}

await_healthy() {
  local limit=$((SECONDS + $1)) bad
  while bad=$(state | grep -v ' running \(healthy\|-\)$'); do
    if ((SECONDS >= limit)); then
      printf 'not healthy in time:\n%s\n' "$bad" >&2
      "${compose[@]}" logs --no-color --tail=20 >&2
      return 1
    fi
    sleep 1
  done
}

remove() { # remove container|volume|network FLAG…
  local kind=$1 ids
  shift
  ids=$(left "$kind")
  # shellcheck disable=SC2086
  [[ -z $ids ]] || docker "$kind" rm "$@" $ids
}

case ${1:-} in
up)
  scale=()
  # Where there is another store, ours is not started.
  [[ -z ${WEIR_S3_ENDPOINT:-} || $file == one-node.yaml ]] || scale=(--scale s3=0)
  "${compose[@]}" up -d --remove-orphans "${scale[@]}"
  await_healthy "${WEIR_HEALTHY_IN:-180}"
  echo "Weir answers at http://127.0.0.1:${WEIR_HTTP_PORT:-3100} and, over gRPC, at 127.0.0.1:${WEIR_GRPC_PORT:-9095}; make down ends it"
  ;;
down)
  COMPOSE_PROFILES=monitoring "${compose[@]}" down --volumes --remove-orphans --timeout 40
  # What another layout, or an interrupted start, has left.
  remove container --force
  remove volume
  remove network
  ;;
healthy)
  await_healthy "${2:-180}"
  ;;
left)
  left container
  left volume
  left network
  ;;
'')
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
  ;;
*)
  exec "${compose[@]}" "$@"
  ;;
esac
