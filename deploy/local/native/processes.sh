# shellcheck shell=bash
# The native cluster's processes. Each component is recorded by pid and start time (a pid alone may
# be somebody else's by now) and runs in a cgroup of ours, where a killed run's orphans are found too.

# Every cgroup directory of ours, deepest first.
our_cgroups() {
  local top
  for top in /sys/fs/cgroup/$CGROUP /sys/fs/cgroup/*/$CGROUP; do
    [ -d "$top" ] && find "$top" -depth -type d
  done
  return 0
}

our_pids() {
  local dir
  our_cgroups | while read -r dir; do cat "$dir/cgroup.procs" 2>/dev/null || true; done | sort -un | grep -vx 0 || true # 0: a process of a pid namespace that is not ours to see
}

cgroup_up() {
  local c
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/$CGROUP/system
    for c in cpu cpuset io memory pids; do
      if grep -qw $c /sys/fs/cgroup/cgroup.controllers; then
        echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control
        echo "+$c" >/sys/fs/cgroup/$CGROUP/cgroup.subtree_control
      fi
    done
    return
  fi
  for c in /sys/fs/cgroup/*/; do
    [ -f "$c/cgroup.procs" ] && mkdir -p "$c/$CGROUP"
    # A new cpuset is unusable until it has processors and memory nodes.
    if [ -f "$c/cpuset.cpus" ]; then
      cat "$c/cpuset.cpus" >"$c/$CGROUP/cpuset.cpus"
      cat "$c/cpuset.mems" >"$c/$CGROUP/cpuset.mems"
    fi
  done
  mkdir -p /sys/fs/cgroup/pids/$CGROUP/system
}

system_cgroup() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup/$CGROUP/system; else echo /sys/fs/cgroup/pids/$CGROUP/system; fi
}

start_time() { [ -r "/proc/$1/stat" ] && sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# alive NAME: it runs, and it is the process that was recorded.
alive() {
  local pid begun
  [ -f "$RUN/pids/$1" ] || return 1
  read -r pid begun <"$RUN/pids/$1"
  [ "$(start_time "$pid")" = "$begun" ] && [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" != Z ]
}

# run NAME COMMAND…: start it, unless it runs with this very command already.
run() {
  local name=$1 pid; shift
  local command="$*"
  if alive "$name" && [ "$(<"$RUN/commands/$name")" = "$command" ]; then return; fi
  end "$name"
  mkdir -p "$RUN/pids" "$RUN/commands" "$LOGS"
  # Detached from this shell and its terminal: the cluster outlives `make up`.
  setsid bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' _ "$(system_cgroup)" "$@" </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
  pid=$!
  echo "$pid $(start_time $pid)" >"$RUN/pids/$name"
  echo "$command" >"$RUN/commands/$name"
}

# end NAME: SIGTERM, ten seconds, SIGKILL.
end() {
  local pid _
  alive "$1" || return 0
  read -r pid _ <"$RUN/pids/$1"
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 100); do alive "$1" || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

# The state goes too, so nothing needs to end gently: components, shims, containers, the mount
# namespace's keeper, and whatever a killed run left behind.
end_all() {
  local pid _
  for _ in $(seq 100); do
    [ -n "$(our_pids)" ] || return 0
    for pid in $(our_pids); do kill -9 "$pid" 2>/dev/null || true; done
    sleep 0.1
  done
  die "these processes of the cluster do not end: $(our_pids | tr '\n' ' '); look at them with ps, they wait in the kernel"
}

cgroups_down() {
  local dir _
  for _ in $(seq 20); do
    our_cgroups | while read -r dir; do rmdir "$dir" 2>/dev/null || true; done
    [ -z "$(our_cgroups)" ] && return
    sleep 0.2
  done
  say "left behind: $(our_cgroups | tr '\n' ' ')"
}
