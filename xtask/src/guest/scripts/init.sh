#!/bin/busybox sh
# First process of the guest: reaches the disks, puts the scripts where the next first process finds them, hands over.
# Disks: vda the Debian root, vdb modules, vdc programs and tests, vdd the job.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "$module" || echo "guest: cannot load $module"; done < /modules/order
mount -t ext4 -o noatime /dev/vda /new || exec sh -c 'echo "guest: no root disk"; reboot -f'
mkdir -p /new/usr/lib/modules /new/guest
mount -t ext4 -o ro /dev/vdb /new/usr/lib/modules
mount -t ext4 -o ro /dev/vdc /new/guest
mount -t tmpfs -o mode=755 run /new/run
mkdir /new/run/guest
cp /glue/* /new/run/guest
cat /dev/vdd > /new/run/guest/script
first=/run/guest/start
if grep -q ' guest.systemd' /proc/cmdline; then
    first=/lib/systemd/systemd
    # The directory by which programs know that systemd runs.
    mkdir -p /new/run/systemd/system
    mv /new/run/guest/guest-job.service /new/run/systemd/system
fi
for fs in proc sys dev; do mount -o move /$fs /new/$fs; done
exec switch_root /new "$first"
