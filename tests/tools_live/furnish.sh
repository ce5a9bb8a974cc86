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
systemctl enable sample.service cron.service ssh.service rsyslog.service fail2ban.service
printf '[sshd]\nenabled = true\nbackend = systemd\n' >/etc/fail2ban/jail.d/sshd.local
mkdir -p /srv/logs /srv/data
printf 'one error\ntwo fine\nthree error\n' >/srv/logs/app.log
printf 'tmpfs /mnt/scratch tmpfs noauto,size=1m 0 0\n' >>/etc/fstab
mkdir -p /mnt/scratch
mkdir -p /etc/containers
printf '[storage]\ndriver = "vfs"\ngraphroot = "/var/tmp/containers/graph"\nrunroot = "/run/containers"\n' >/etc/containers/storage.conf
printf '[containers]\nnetns = "host"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n' >/etc/containers/containers.conf
