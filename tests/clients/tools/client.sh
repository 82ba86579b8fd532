#!/usr/bin/env bash
# Scenarios through the command-line tools of rabbitmq-c.
set -euo pipefail

readonly SERVER=(
    --server="$AMQP_HOST" --port="$AMQP_PORT" --username="$AMQP_USER" --password="$AMQP_PASSWORD")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

name() { echo "$AMQP_PREFIX$1"; }
declare_queue() { amqp-declare-queue "${SERVER[@]}" --queue="$1" "${@:2}"; }
delete_queue() { amqp-delete-queue "${SERVER[@]}" --queue="$1" "${@:2}"; }
publish() { amqp-publish "${SERVER[@]}" "$@"; }
get() { amqp-get "${SERVER[@]}" --queue="$1"; }
consume() { amqp-consume "${SERVER[@]}" --queue="$@"; }

same() {
    [[ $2 == "$1" ]] || { echo "'$2' is not '$1'" >&2; exit 1; }
}

# fails TEXT COMMAND...: ends badly, and says this.
fails() {
    local said
    if said=$("${@:2}" 2>&1); then
        echo "not refused: ${*:2}" >&2
        exit 1
    fi
    [[ $said == *"$1"* ]] || { echo "'$said' does not say '$1'" >&2; exit 1; }
}

# A tool's connection ends before another looks: what it published may still be on its way.
get_soon() {
    local try
    for try in {1..100}; do
        get "$1" && return
        sleep 0.05
    done
    return 1
}

scenario_topology() {
    local queue
    queue=$(name queue)
    publish --exchange=amq.topic --routing-key="$queue.x" --body=lost
    consume "$queue" --exchange=amq.topic --routing-key="$queue.*" --count=1 cat \
        >"$folder/got" &
    local consumer=$!
    # The tool binds without a word, so this goes on until something has come.
    while kill -0 "$consumer" 2>/dev/null; do
        publish --exchange=amq.topic --routing-key="$queue.y" --body=bound
        sleep 0.05
    done
    wait "$consumer"
    same bound "$(cat "$folder/got")"
    delete_queue "$queue" >/dev/null
    same "$queue" "$(declare_queue "$queue" --durable)"
    delete_queue "$queue" >/dev/null
}

scenario_acks() {
    local queue
    queue=$(declare_queue "$(name queue)")
    printf '%s\n' one two three | publish --routing-key="$queue" --line-buffered
    consume "$queue" --count=2 cat >"$folder/got"
    same "one two" "$(xargs <"$folder/got")"
    same three "$(get_soon "$queue")"
    same 0 "$(delete_queue "$queue")"
}

scenario_prefetch() {
    local queue
    queue=$(declare_queue "$(name queue)")
    seq 20 | publish --routing-key="$queue" --line-buffered
    consume "$queue" --prefetch-count=1 --count=20 cat >"$folder/got"
    same "$(seq 20)" "$(cat "$folder/got")"
    delete_queue "$queue" --if-unused --if-empty >/dev/null
}

scenario_get() {
    local queue
    queue=$(declare_queue "$(name queue)")
    publish --routing-key="$queue" --body=hello --persistent
    same hello "$(get_soon "$queue")"
    if get "$queue"; then
        echo 'not empty' >&2
        exit 1
    fi
    delete_queue "$queue" >/dev/null
}

scenario_large() {
    local queue
    queue=$(declare_queue "$(name queue)")
    head -c 1536000 /dev/urandom >"$folder/sent"
    publish --routing-key="$queue" <"$folder/sent"
    get_soon "$queue" >"$folder/got"
    cmp "$folder/sent" "$folder/got"
    delete_queue "$queue" >/dev/null
}

scenario_headers() {
    local queue
    queue=$(declare_queue "$(name queue)")
    publish --routing-key="$queue" --body=x --content-type=text/plain --reply-to=r \
        --content-encoding=utf-8 --header 'key: value'
    same x "$(get_soon "$queue")"
    delete_queue "$queue" >/dev/null
}

scenario_errors() {
    local queue
    queue=$(declare_queue "$(name queue)")
    fails 404 get "$(name no)"
    fails 406 declare_queue "$queue" --durable
    fails 403 declare_queue amq.mine
    publish --routing-key="$queue" --body=there
    same there "$(get_soon "$queue")"
    fails 403 amqp-get "${SERVER[@]}" --username=no --queue="$queue"
    delete_queue "$queue" >/dev/null
}

"scenario_$1"
echo "ok $1"
