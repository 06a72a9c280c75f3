# Run on a host, as root: one life of the node. Its config comes on standard input, its words go where
# ours go, and its end is ours. Whoever lives longer than the connection is ended by the keeper.
base=$1 program=$2
shift 2
cd "$base/run" || exit 252
cat >node.toml || exit 252
# Its process id stands in the file before it is the node, and it becomes none once all is over: however
# the two meet, the keeper finds it or it finds that it is not wanted.
sh -c 'echo $$ >pid.new && mv pid.new pid && [ ! -e ended ] && exec "$@"' node \
  env "$@" "$base/bin/$program" --config node.toml </dev/null &
wait $!
code=$?
rm -f pid
# That one is ssh's own.
[ $code -eq 255 ] && code=254
exit $code
