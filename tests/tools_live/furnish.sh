# Runs once in the new root: accounts, a package archive of its own, and what the tools look at.
useradd --create-home --shell /bin/bash opsadmin
echo 'opsadmin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/opsadmin
useradd --create-home guest
ssh-keygen -A
echo opsconductor-lab >/etc/hostname
# A package to install, remove and upgrade without any network.
mkdir -p /srv/archive
for version in 1.0 1.1; do
    mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/share/opsc-sample
    echo "$version" >/tmp/deb/usr/share/opsc-sample/version
    printf 'Package: opsc-sample\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: a package to try\n' "$version" >/tmp/deb/DEBIAN/control
    dpkg-deb --build /tmp/deb "/srv/archive/opsc-sample_${version}_all.deb"
    rm -r /tmp/deb
done
cd /srv/archive
apt-ftparchive packages . >Packages
echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
apt-get update
apt-get install -y opsc-sample=1.0
cat >/etc/systemd/system/sample.service <<'X'
[Unit]
Description=a service to start and stop
[Service]
ExecStart=/bin/sh -c 'echo sample is up; while :; do sleep 1; done'
ExecReload=/bin/true
[Install]
WantedBy=multi-user.target
X
# Small servers for tools that ask over the network, each of them the real one of its protocol.
server() { # NAME COMMAND
    cat >"/etc/systemd/system/$1.service" <<Y
[Unit]
Description=$1 to ask
[Service]
ExecStart=$2
[Install]
WantedBy=multi-user.target
Y
    systemctl enable "$1.service"
}
echo '127.0.1.1 opsconductor-lab' >>/etc/hosts
mkdir -p /srv/www /srv/ftp /etc/lab
echo 'it works' >/srv/www/index.html
echo 'it works' >/srv/ftp/readme
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=lab.example.com \
    -addext subjectAltName=DNS:lab.example.com -keyout /etc/lab/key.pem -out /etc/lab/cert.pem
printf 'anonymous_enable=YES\nanon_root=/srv/ftp\nlisten=YES\nbackground=NO\n' >/etc/lab/ftp.conf
server lab-names '/usr/sbin/dnsmasq --keep-in-foreground --no-resolv --no-hosts --host-record=web-01.example.com,192.0.2.11 --mx-host=example.com,mail.example.com,10'
server lab-web '/bin/busybox httpd -f -p 80 -h /srv/www'
server lab-tls '/usr/bin/openssl s_server -accept 443 -www -quiet -key /etc/lab/key.pem -cert /etc/lab/cert.pem'
server lab-ftp '/usr/sbin/vsftpd /etc/lab/ftp.conf'
server lab-mail '/usr/bin/python3 -W ignore -m smtpd -n -c DebuggingServer 0.0.0.0:25'
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: /var/tmp/registry}}\nhttp: {addr: "127.0.0.1:5000"}\n' >/etc/lab/registry.yml
server lab-registry '/usr/bin/docker-registry serve /etc/lab/registry.yml'
server lab-speed '/usr/bin/iperf3 --server'
printf 'Interval 1\nLoadPlugin load\nLoadPlugin memory\nLoadPlugin unixsock\n' >/etc/collectd/collectd.conf
rabbitmq-plugins --offline enable rabbitmq_management </dev/null
systemctl disable rabbitmq-server.service collectd.service docker-registry.service vsftpd.service
# Without networks of its own Docker leaves the host's alone; it is started where it is needed.
systemctl disable docker.service docker.socket containerd.service
mkdir -p /etc/docker
printf '{"bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "storage-driver": "vfs", "data-root": "/var/tmp/containers/docker"}' >/etc/docker/daemon.json
systemctl enable sample.service cron.service ssh.service rsyslog.service fail2ban.service
printf '[sshd]\nenabled = true\nbackend = systemd\n' >/etc/fail2ban/jail.d/sshd.local
mkdir -p /srv/logs /srv/data
printf 'one error\ntwo fine\nthree error\n' >/srv/logs/app.log
printf 'tmpfs /mnt/scratch tmpfs noauto,size=1m 0 0\n' >>/etc/fstab
mkdir -p /mnt/scratch
mkdir -p /etc/containers
printf '[storage]\ndriver = "vfs"\ngraphroot = "/var/tmp/containers/graph"\nrunroot = "/run/containers"\n' >/etc/containers/storage.conf
printf '[containers]\nnetns = "host"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n' >/etc/containers/containers.conf
