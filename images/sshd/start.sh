# Host keys must not be in an image, where everybody would have them.
ssh-keygen -A >/dev/null
mkdir -p /root/.ssh && chmod 700 /root/.ssh && printf '%s\n' "$PUBLIC_KEY" >/root/.ssh/authorized_keys
exec /usr/sbin/sshd -D -e -o MaxStartups=200 -o MaxSessions=200
