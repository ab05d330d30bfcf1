# shellcheck shell=bash
# shellcheck disable=SC2154 # names are shared by demo/run and the files it sources
# The fleet of the demo: agents, HTTP servers with a sidecar each, a proxy-sink beside each agent.
# Uses $state (a folder), $root (the project) and demo/lib.sh.

regions=(ams fra iad)
servers=(web-ams-1 web-ams-2 web-fra-1 web-iad-1)
declare -A gossip_port api_port sink_port server_port
region_of() { cut -d- -f2 <<<"$1"; }
api() { echo "127.0.0.1:${api_port[$1]}"; }
sink() { echo "127.0.0.1:${sink_port[$1]}"; }
all_apis() { echo "$(api ams),$(api fra),$(api iad)"; }
# on REGION COMMAND…: a patina command to the agent there.
on() {
  local region=$1
  shift
  PATINA_API=$(api "$region") patina "$@"
}

choose_ports() {
  local name port=0
  for name in "${regions[@]}"; do
    free_port && gossip_port[$name]=$port
    free_port && api_port[$name]=$port
    free_port && sink_port[$name]=$port
  done
  for name in "${servers[@]}"; do free_port && server_port[$name]=$port; done
}

write_agent_config() {
  cat >"$state/agent-$1.toml" <<END
[node]
name = "$1-1"
region = "$1"
data_dir = "$state/data-$1"

[schema]
paths = ["$root/fleet/schema.sql"]

[gossip]
listen = "127.0.0.1:${gossip_port[$1]}"
seeds = ["127.0.0.1:${gossip_port[ams]}"]
cluster = "demo"

[api]
listen = ["$(api "$1")"]
END
}

start_agent() {
  mkdir -p "$state/data-$1"
  launch "agent-$1" "$binary" agent --config "$state/agent-$1.toml" --fault-injection
}

write_server_config() {
  local name=$1
  mkdir -p "$state/$name"
  # One process without a master: a SIGKILL ends all of it.
  cat >"$state/$name/nginx.conf" <<END
daemon off;
master_process off;
worker_processes 1;
pid $state/$name/pid;
error_log $state/$name/error.log;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $state/$name/body;
  proxy_temp_path $state/$name/proxy;
  fastcgi_temp_path $state/$name/fastcgi;
  uwsgi_temp_path $state/$name/uwsgi;
  scgi_temp_path $state/$name/scgi;
  server {
    listen 127.0.0.1:${server_port[$name]};
    location = /status { stub_status; }
    location / { default_type text/plain; return 200 "hello from $name\n"; }
  }
}
END
  cat >"$state/$name/service.toml" <<END
machine = "$name"
app = "web"
organization = "acme"
host = "$(region_of "$name")-1"
region = "$(region_of "$name")"
address = "127.0.0.1:${server_port[$name]}"
soft_limit = 20

[check]
path = "/"
interval_ms = 100
timeout_ms = 400
unhealthy_after = 2

[load]
pid_file = "$state/$name/pid"
stub_status = "http://127.0.0.1:${server_port[$name]}/status"
END
}

nginx_binary() { command -v nginx || echo /usr/sbin/nginx; }
start_server() {
  launch "$1" "$(nginx_binary)" -e "$state/$1/error.log" -p "$state/$1" -c "$state/$1/nginx.conf"
}
start_sidecar() {
  launch "sidecar-$1" "$binary" sidecar --service "$state/$1/service.toml" \
    --api "$(api "$(region_of "$1")")"
}

start_sink() {
  printf '[sink]\nlisten = ["%s"]\nregion = "%s"\nagent = "%s"\n' "$(sink "$1")" "$1" "$(api "$1")" \
    >"$state/sink-$1.toml"
  launch "sink-$1" "$binary" proxy-sink --config "$state/sink-$1.toml"
}

# members_in_state REGION STATE N: the agent there believes N members to be alive, suspect or dead.
members_in_state() { [ "$(on "$1" members --format json | grep -c "\"state\":\"$2\"")" = "$3" ]; }
all_members_alive() {
  local region
  for region in "${regions[@]}"; do members_in_state "$region" alive 3 || return 1; done
}

# candidates REGION [FROM]: machines that the proxy-sink in REGION names, best first.
candidates() {
  patina route web --sink "$(sink "$1")" --from "${2:-$1}" --count 10 --format json |
    grep -E '"rank": ?[0-9]' | field_of_each machine
}
candidates_count() { [ "$(candidates "$1" | wc -l)" = "$2" ]; }

# All regions of fleet/regions.csv as SQL.
region_rows() {
  awk -F, 'NR > 1 { printf "INSERT INTO regions (code, name, latitude, longitude) VALUES (\047%s\047, \047%s\047, %s, %s);\n", $1, $2, $3, $4 }' \
    "$root/fleet/regions.csv"
}
