# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # names are shared by demo/run and the files it sources
# What the demo's steps share: talking to the reader, processes and their end, waiting, reading JSON lines.

# --- talking ---------------------------------------------------------------------------------------------

if [ -t 1 ]; then bold=$'\033[1m' dim=$'\033[2m' green=$'\033[32m' red=$'\033[31m' plain=$'\033[0m'
else bold='' dim='' green='' red='' plain=''; fi

now_ms() { local now=$EPOCHREALTIME; echo "${now%[.,]*}$(cut -c1-3 <<<"${now#*[.,]}")"; }
start_ms=$(now_ms)
elapsed() { local ms=$(($(now_ms) - start_ms)); printf '%d.%01d s' $((ms / 1000)) $((ms % 1000 / 100)); }

headline() { printf '\n%s%s%s %s(%s)%s\n' "$bold" "$*" "$plain" "$dim" "$(elapsed)" "$plain"; }
note() { printf '   %s\n' "$*"; }
good() { printf '   %sok%s %s\n' "$green" "$plain" "$*"; }
show() { sed 's/^/     /'; }
# A command as a reader could type it, then its output.
demonstrate() {
  local word line=patina
  for word in "$@"; do
    if [[ $word == *[[:space:]]* ]]; then word="\"$word\""; fi
    line+=" $word"
  done
  printf '   %s$ %s%s\n' "$dim" "$line" "$plain"
  patina "$@" | show
}
die() {
  printf '   %sFAILED%s %s\n' "$red" "$plain" "$*" >&2
  exit 1
}

summary=()
# summarize WHAT VALUE: a line of the table at the end.
summarize() { summary+=("$1"$'\t'"$2"); }
print_summary() {
  local line
  printf '\n%sSummary%s\n' "$bold" "$plain"
  for line in "${summary[@]}"; do printf '   %-68s %s\n' "${line%%$'\t'*}" "${line#*$'\t'}"; done
}

# --- processes -------------------------------------------------------------------------------------------

patina() { "$binary" "$@"; }

# When a process was started, in ticks: a pid may be used again, both together may not.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20 || true; }

# launch NAME COMMAND…: in the background, output into $state/NAME.log; its pid is kept for the end.
launch() {
  local name=$1
  shift
  "$@" >>"$state/$name.log" 2>&1 &
  printf '%s %s %s\n' "$!" "$(started_at "$!")" "$name" >>"$state/pids"
}
pid_of() { awk -v name="$1" '$3 == name { pid = $1 } END { print pid }' "$state/pids"; }

# end_processes STATE: the newest first; asks, waits up to 5 s, then kills. Only what this demo started.
end_processes() {
  local pid ticks name deadline alive=()
  [ -f "$1/pids" ] || return 0
  while read -r pid ticks name; do
    if [ -n "$ticks" ] && [ "$(started_at "$pid")" = "$ticks" ]; then
      kill -TERM "$pid" 2>/dev/null || true
      alive+=("$pid $ticks")
    fi
  done < <(tac "$1/pids")
  deadline=$(($(now_ms) + 5000))
  for name in "${alive[@]}"; do
    read -r pid ticks <<<"$name"
    while [ "$(started_at "$pid")" = "$ticks" ] && ! is_zombie "$pid"; do
      if [ "$(now_ms)" -gt "$deadline" ]; then
        kill -KILL "$pid" 2>/dev/null || true
        break
      fi
      sleep 0.02
    done
  done
}
is_zombie() { [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; }

# kill_now NAME: SIGKILL, no goodbye; waits until it is gone.
kill_now() {
  local pid
  pid=$(pid_of "$1")
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
}

# --- waiting ---------------------------------------------------------------------------------------------

# wait_for SECONDS WHAT COMMAND…: until the command succeeds; the demo fails when it does not.
wait_for() {
  local deadline=$(($(now_ms) + $1 * 1000)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$(now_ms)" -lt "$deadline" ] || die "$what: not within the time (logs: $state)"
    sleep 0.03
  done
}

# --- JSON lines ------------------------------------------------------------------------------------------

# field NAME: its value in the first object of stdin that has it; for the flat objects of --format json.
field() { field_of_each "$1" | head -1; }
field_of_each() { sed -nE "s/.*\"$1\": ?\"?([^\",}]*).*/\\1/p"; }

# A free port of this machine: nothing listens there, and none that was given out before.
ports_given=' '
free_port() {
  local candidate
  for _ in {1..200}; do
    candidate=$((20000 + RANDOM % 10000))
    [[ $ports_given != *" $candidate "* ]] || continue
    ! (: >"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || continue
    ports_given+="$candidate "
    port=$candidate
    return
  done
  die "no free port between 20000 and 30000"
}
