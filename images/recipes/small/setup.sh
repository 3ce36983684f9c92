systemctl enable small-httpd.service
python3 -ISE -c 'import socket, threading, os; assert os.access("/usr/local/sbin/small-httpd", os.X_OK)'
