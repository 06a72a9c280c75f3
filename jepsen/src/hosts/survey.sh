# Run on a host, as whoever logs in: what kind of machine it is. Changes nothing.
echo "machine=$(uname -s) $(uname -m)"
echo "user=$(id -un)"
echo "uid=$(id -u)"
echo "from=${SSH_CONNECTION%% *}"
echo "own=$(hostname -I 2>/dev/null)"
if [ "$(id -u)" = 0 ]; then
  echo "root=yes"
elif sudo -n true 2>/dev/null </dev/null; then
  echo "root=sudo"
else
  echo "root=no"
fi
