# shellcheck shell=bash
# shellcheck disable=SC2154,SC2317 # names are shared by demo/run's files; conditions are called by wait_for
# The six things the demo shows, a function each, in order. Uses demo/lib.sh and demo/fleet.sh.

step_agents() {
  headline "1. Three agents in three regions find each other from one seed"
  local region began ms
  choose_ports
  began=$(now_ms)
  for region in "${regions[@]}"; do
    write_agent_config "$region"
    start_agent "$region"
  done
  for region in "${regions[@]}"; do
    wait_for 20 "the agent in $region" on "$region" status
  done
  wait_for 20 "all three know each other" all_members_alive
  ms=$(($(now_ms) - began))
  good "every agent sees three members alive, $ms ms after the first was started"
  PATINA_API=$(api ams) demonstrate members
  region_rows >"$state/regions.sql"
  on ams exec --file "$state/regions.sql" >/dev/null
  patina bench wait-equal --agents "$(all_apis)" --table regions --rows 35 >/dev/null ||
    die "the regions did not reach everybody"
  good "fleet/schema.sql is loaded everywhere; 35 regions written in ams are in fra and iad, too"
  summarize "three agents started and joined" "$ms ms"
}

step_servers() {
  headline "2. Four HTTP servers, each with a sidecar that registers, checks and measures it"
  local server
  for server in "${servers[@]}"; do
    write_server_config "$server"
    start_server "$server"
    start_sidecar "$server"
  done
  all_known() {
    [ "$(on iad query "SELECT count(*) FROM checks JOIN machine_load USING (machine) WHERE status = 'passing'" \
      --format csv | tail -1)" = 4 ]
  }
  wait_for 15 "four passing checks and loads, seen in iad" all_known
  good "four checks pass and four loads are known, as the agent in iad has heard from the others"
  PATINA_API=$(api iad) demonstrate query \
    "SELECT machine, status, output, cpu_load, memory_mib FROM checks JOIN machine_load USING (machine)"
}

step_routing() {
  headline "3. A proxy-sink beside each agent keeps a live routing table"
  local region machine address answer
  for region in "${regions[@]}"; do start_sink "$region"; done
  for region in "${regions[@]}"; do
    wait_for 15 "the proxy-sink in $region knows four machines" candidates_count "$region" 4
  done
  demonstrate route web --sink "$(sink ams)" --from ams | tee "$state/picked"
  machine=$(awk '$1 == 1 { print $2; exit }' "$state/picked")
  [ "$(region_of "$machine")" = ams ] || die "from ams the pick is $machine, not one in ams"
  address="127.0.0.1:${server_port[$machine]}"
  answer=$(curl -sS --max-time 5 "http://$address/")
  [ "$answer" = "hello from $machine" ] || die "http://$address/ said: $answer"
  good "a real request to the pick, http://$address/, was answered: $answer"
}

step_kill_server() {
  headline "4. A server is killed: every region picks another one"
  local victim=web-fra-1 killed_ms flip_ms region heard_ms
  for region in "${regions[@]}"; do
    launch "watch-$region" "$binary" route web --sink "$(sink "$region")" --from fra --watch --format json
  done
  for region in "${regions[@]}"; do
    wait_for 10 "$region picks $victim for fra" grep -q "\"$victim\"" "$state/watch-$region.log"
  done
  killed_ms=$(now_ms)
  kill_now "$victim"
  note "SIGKILL to $victim, which every region picks for requests from fra"
  for region in "${regions[@]}"; do
    moved() { [ -n "$(pick_moved_ms "$region" "$victim" "$killed_ms")" ]; }
    wait_for 10 "$region hears that $victim is gone" moved
  done
  flip_ms=$(sidecar_flip_ms "$victim" critical "$killed_ms")
  [ -n "$flip_ms" ] || die "the sidecar of $victim did not say when the check failed"
  note "its check failed $((flip_ms - killed_ms)) ms later (a probe each 100 ms; two in a row must fail)"
  for region in "${regions[@]}"; do
    heard_ms=$(($(pick_moved_ms "$region" "$victim" "$killed_ms") - flip_ms))
    good "$region moved its pick $heard_ms ms after the check failed"
    summarize "check failed in fra -> pick moved in $region" "$heard_ms ms"
  done
  for region in "${regions[@]}"; do kill_now "watch-$region"; done
  demonstrate route web --sink "$(sink iad)" --from fra
  start_server "$victim"
  for region in "${regions[@]}"; do
    wait_for 10 "$victim is back in $region" candidates_count "$region" 4
  done
  good "$victim was started again and is back in every table"
}

# pick_moved_ms REGION MACHINE AFTER_MS: when the pick there was another machine first.
pick_moved_ms() {
  grep -v "\"machine\":\"$2\"" "$state/watch-$1.log" | grep -oE '"unix_ms":[0-9]+' | grep -oE '[0-9]+' |
    awk -v after="$3" '$1 >= after { print; exit }'
}

# sidecar_flip_ms MACHINE STATUS AFTER_MS: when its sidecar saw the status flip (it prints Unix ms, then what).
sidecar_flip_ms() {
  awk -v status="$2" -v after="$3" '$1 >= after && index($0, status) { print $1; exit }' \
    "$state/sidecar-$1.log"
}

# write_on REGION SQL…: one transaction; prints time_ns and actor of the acknowledgement.
write_on() {
  local region=$1 answer
  shift
  answer=$(on "$region" exec "$@" --format json) || die "$region did not acknowledge: $*"
  echo "$(field time_ns <<<"$answer") $(field actor <<<"$answer")"
}

step_partition() {
  headline "5. One agent's links are cut; both sides go on writing; the links heal"
  local ams_write iad_write winner healed_ms
  patina bench wait-equal --agents "$(all_apis)" >/dev/null || die "not equal before the cut"
  on iad fault cut >/dev/null
  note "patina fault cut, on iad"
  sees_cut() { members_in_state ams dead 1 && members_in_state fra dead 1 && members_in_state iad dead 2; }
  wait_for 30 "both sides see the split" sees_cut
  good "every agent holds those behind the cut for dead: in ams, and in iad:"
  PATINA_API=$(api ams) demonstrate members
  PATINA_API=$(api iad) demonstrate members
  ams_write=$(write_on ams "UPDATE apps SET primary_region = 'ams', minimum_running = 2 WHERE name = 'web'")
  iad_write=$(write_on iad "UPDATE apps SET primary_region = 'iad', status = 'suspended' WHERE name = 'web'")
  write_on ams "INSERT INTO hostnames (hostname, app) VALUES ('eu.example.com', 'web')" >/dev/null
  write_on iad "INSERT INTO hostnames (hostname, app) VALUES ('us.example.com', 'web')" >/dev/null
  good "both sides acknowledged: a conflict (apps.primary_region), other columns of that row, other rows"
  healed_ms=$(now_ms)
  on iad fault heal >/dev/null
  note "patina fault heal"
  wait_for 30 "one membership again" all_members_alive
  patina bench wait-equal --agents "$(all_apis)" --timeout 20 >/dev/null || die "not equal after the heal"
  healed_ms=$(($(now_ms) - healed_ms))
  good "all three hold the same rows, $healed_ms ms after the heal"
  demonstrate verify --api "$(api fra)" || die "patina verify found a difference"
  demonstrate query --api "$(api fra)" "SELECT name, primary_region, minimum_running, status FROM apps"
  winner=$(on fra query "SELECT primary_region FROM apps WHERE name = 'web'" --format csv | tail -1)
  explain_winner "$winner" "$ams_write" "$iad_write"
  # The demo's machines are to be found again.
  write_on ams "UPDATE apps SET status = 'deployed' WHERE name = 'web'" >/dev/null
  summarize "partition healed -> all three equal again" "$healed_ms ms"
}

# explain_winner REGION "TIME_NS ACTOR" "TIME_NS ACTOR": of the writes of ams and iad.
explain_winner() {
  local expected=iad ms
  if [ "${2%% *}" -gt "${3%% *}" ]; then expected=ams; fi
  [ "$1" = "$expected" ] || die "primary_region is $1, but the later write was that of $expected"
  ms=$(((${3%% *} - ${2%% *}) / 1000000))
  good "primary_region = '$1' won: for every cell the later write wins, and that of iad was $ms ms later"
  good "minimum_running (ams) and status (iad) are both kept: those cells had one writer each"
}

step_kill_agent() {
  headline "6. An agent is killed in the middle of a write load and started again"
  local ledger=$state/ledger.csv writer whole_ms lines
  launch ledger-writer "$binary" bench ledger-write --agents "$(api fra)" --ledger "$ledger" \
    --clients 8 --seconds 5
  writer=$(pid_of ledger-writer)
  enough_lines() { [ "$(wc -l <"$ledger")" -ge 2000 ]; }
  wait_for 15 "2,000 acknowledged writes" enough_lines
  kill_now agent-fra
  note "SIGKILL to the agent in fra, after $(wc -l <"$ledger") acknowledged writes; the generator goes on"
  start_agent fra
  wait_for 20 "the agent in fra is back" on fra status
  wait "$writer" || die "the generator failed: $(tail -1 "$state/ledger-writer.log")"
  lines=$(wc -l <"$ledger")
  whole_ms=$(now_ms)
  demonstrate bench ledger-check --agents "$(all_apis)" --ledger "$ledger" --wait 20 ||
    die "acknowledged writes are missing"
  whole_ms=$(($(now_ms) - whole_ms))
  patina bench wait-equal --agents "$(all_apis)" --timeout 20 >/dev/null || die "not equal at the end"
  good "$lines acknowledged writes, none missing on any node"
  summarize "SIGKILL under load: acknowledged writes / missing anywhere" "$lines / 0"
  summarize "the same: longest time that a client of the killed agent waited" \
    "$(awk '$1 == "longest_gap_ms" { print $2 }' "$state/ledger-writer.log") ms"
  summarize "generator ended -> all of them on every node" "$whole_ms ms"
}
