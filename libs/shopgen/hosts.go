package shopgen

import (
	"strconv"
	"time"
)

// stockLookup logs that the inventory service was asked about a product.
func (g *Generator) stockLookup(v *visit) {
	if !g.wants(inventory) {
		return
	}
	at := v.at + g.latency(2*time.Millisecond, 0.5)
	if g.chance(0.001 + 0.03*v.severity) {
		g.stackTrace(v, at, 0)
		return
	}
	b, buf := g.javaLine(at, "DEBUG", "StockService")
	b = append(b, "Stock of SKU-"...)
	b = appendInt(b, 1000+v.item)
	b = append(append(b, " in "...), warehouses[g.rng.IntN(len(warehouses))]...)
	b = append(b, " is "...)
	b = appendInt(b, g.rng.IntN(180))
	b = g.javaTrace(b, v)
	g.end(b, buf, at, g.host(inventory))
}

// reserve sets goods aside for an order. It returns how long that took and
// whether it worked.
func (g *Generator) reserve(v *visit, at int64, order uint64, items int) (int64, bool) {
	took := g.latency(14*time.Millisecond, 0.5)
	failed := g.chance(0.004 + 0.15*v.severity)
	if failed {
		took += int64(3 * time.Second)
	}
	if !g.wants(inventory) {
		return took, !failed
	}
	if failed {
		g.stackTrace(v, at+took, order)
		return took, false
	}
	b, buf := g.javaLine(at+took, "INFO ", "ReservationService")
	b = append(b, "Reserved "...)
	b = appendInt(b, items)
	b = append(b, " x SKU-"...)
	b = appendInt(b, 1000+v.item)
	b = append(append(b, " in "...), warehouses[g.rng.IntN(len(warehouses))]...)
	b = append(b, " for ord-"...)
	b = strconv.AppendUint(b, order, 10)
	b = g.javaTrace(b, v)
	g.end(b, buf, at+took, g.host(inventory))
	return took, true
}

func (g *Generator) javaLine(at int64, level, class string) ([]byte, int32) {
	b, buf := g.begin()
	b = append(g.clocks.java.append(b, at), ',')
	b = appendPadded(b, uint64(at/1e6%1e3), 3)
	b = append(append(b, ' '), level...)
	b = append(b, " [http-nio-8080-exec-"...)
	b = appendInt(b, 1+g.rng.IntN(20))
	b = append(append(b, "] c.s.inventory."...), class...)
	return append(b, " - "...), buf
}

func (g *Generator) javaTrace(b []byte, v *visit) []byte {
	return appendHex(appendHex(append(b, " traceId="...), v.traceHi), v.traceLo)
}

type frame struct {
	call string
	line int
}

var (
	appFrames = []frame{
		{"com.shop.inventory.WarehouseClient.call(WarehouseClient.java:", 118},
		{"com.shop.inventory.WarehouseClient.reserve(WarehouseClient.java:", 74},
		{"com.shop.inventory.ReservationService.reserve(ReservationService.java:", 203},
		{"com.shop.inventory.ReservationController.post(ReservationController.java:", 57},
		{"java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:", 103},
		{"org.springframework.web.method.support.InvocableHandlerMethod.doInvoke(InvocableHandlerMethod.java:", 255},
		{"org.springframework.web.servlet.DispatcherServlet.doDispatch(DispatcherServlet.java:", 1089},
		{"org.apache.catalina.core.ApplicationFilterChain.doFilter(ApplicationFilterChain.java:", 140},
		{"org.apache.coyote.http11.Http11Processor.service(Http11Processor.java:", 397},
		{"java.base/java.lang.Thread.run(Thread.java:", 1583},
	}
	ioFrames = []frame{
		{"java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:", 278},
		{"java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:", 304},
		{"java.base/java.net.Socket$SocketInputStream.read(Socket.java:", 1099},
		{"com.shop.inventory.WarehouseClient.call(WarehouseClient.java:", 112},
	}
)

// stackTrace logs an exception of the Java service; order 0: it was not about
// an order.
func (g *Generator) stackTrace(v *visit, at int64, order uint64) {
	b, buf := g.javaLine(at, "ERROR", "ReservationController")
	b = append(b, "Request failed"...)
	if order > 0 {
		b = strconv.AppendUint(append(b, " for ord-"...), order, 10)
	}
	b = g.javaTrace(b, v)
	b = append(b, "\ncom.shop.inventory.WarehouseUnavailableException: warehouse "...)
	b = append(b, warehouses[g.rng.IntN(len(warehouses))]...)
	b = append(b, " did not answer SKU-"...)
	b = appendInt(b, 1000+v.item)
	b = append(b, " within 3000 ms"...)
	b = appendFrames(b, appFrames)
	if g.chance(0.6) {
		b = append(b, "\nCaused by: java.net.SocketTimeoutException: Read timed out"...)
		b = appendFrames(b, ioFrames)
		b = append(b, "\n\t... 9 more"...)
	}
	g.end(b, buf, at, g.host(inventory))
}

func appendFrames(b []byte, frames []frame) []byte {
	for _, f := range frames {
		b = append(append(b, "\n\tat "...), f.call...)
		b = append(appendInt(b, f.line), ')')
	}
	return b
}

// systemEvent logs one of the things that go on on any host.
func (g *Generator) systemEvent(at int64) {
	if !g.wants(syslog) {
		return
	}
	stream := g.host(syslog)
	switch p := g.rng.Float64(); {
	case p < 0.32:
		b, buf := g.syslogLine(at, stream, "sshd", 20000+g.rng.IntN(9000))
		b = append(b, "Failed password for "...)
		b = append(b, intruders[g.popular(len(intruders))]...)
		b = g.appendPeer(b)
		g.end(append(b, " ssh2"...), buf, at, stream)
	case p < 0.44:
		b, buf := g.syslogLine(at, stream, "sshd", 20000+g.rng.IntN(9000))
		b = append(b, "Connection closed by authenticating user root"...)
		b = g.appendPeer(b)
		g.end(append(b, " [preauth]"...), buf, at, stream)
	case p < 0.50:
		b, buf := g.syslogLine(at, stream, "sshd", 20000+g.rng.IntN(9000))
		b = append(b, "Accepted publickey for deploy"...)
		b = g.appendPeer(b)
		b = append(b, " ssh2: ED25519 SHA256:"...)
		b = appendHex(appendHex(b, 0x5d1f0c3a9e7b2468), 0x0f1e2d3c4b5a6978)
		g.end(b, buf, at, stream)
	case p < 0.66:
		b, buf := g.syslogLine(at, stream, "CRON", 10000+g.rng.IntN(9000))
		g.end(append(b, jobs[g.rng.IntN(len(jobs))]...), buf, at, stream)
	case p < 0.84:
		b, buf := g.syslogLine(at, stream, "kernel", 0)
		b = g.appendUptime(b, at)
		b = append(b, "[UFW BLOCK] IN=eth0 OUT= SRC="...)
		b = appendIPv4(b, 0xC0000200|uint32(g.rng.IntN(256)))
		b = append(b, " DST=198.51.100.7 LEN=60 TTL="...)
		b = appendInt(b, 40+g.rng.IntN(24))
		b = append(b, " ID="...)
		b = appendInt(b, g.rng.IntN(65536))
		b = append(b, " DF PROTO=TCP SPT="...)
		b = appendInt(b, 1024+g.rng.IntN(64000))
		b = append(b, " DPT="...)
		b = appendInt(b, ports[g.rng.IntN(len(ports))])
		g.end(append(b, " WINDOW=64240 RES=0x00 SYN URGP=0"...), buf, at, stream)
	default:
		b, buf := g.syslogLine(at, stream, "systemd", 1)
		unit := units[g.rng.IntN(len(units))]
		g.end(append(b, unit...), buf, at, stream)
	}
}

var intruders = []string{"root", "invalid user admin", "invalid user oracle", "invalid user test", "invalid user ubuntu", "postgres", "invalid user pi"}

var jobs = []string{
	"(root) CMD (/usr/lib/sysstat/debian-sa1 1 1)",
	"(root) CMD (test -x /usr/sbin/anacron || run-parts --report /etc/cron.hourly)",
	"(backup) CMD (/usr/local/bin/snapshot --quiet --keep 14)",
	"pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
	"pam_unix(cron:session): session closed for user root",
}

var units = []string{
	"Started Session 4711 of User deploy.",
	"logrotate.service: Deactivated successfully.",
	"Starting Rotate log files...",
	"Finished Rotate log files.",
	"apt-daily.service: Consumed 1.204s CPU time.",
	"Reloading nginx.service - A high performance web server...",
}

var ports = []int{22, 23, 80, 445, 1433, 3306, 3389, 5432, 6379, 8080}

func (g *Generator) syslogLine(at int64, stream int, tag string, pid int) ([]byte, int32) {
	b, buf := g.begin()
	b = append(g.clocks.bsd.append(b, at), ' ')
	b = append(append(b, g.streams[stream].Host...), ' ')
	b = append(b, tag...)
	if pid > 0 {
		b = append(appendInt(append(b, '['), pid), ']')
	}
	return append(b, ": "...), buf
}

func (g *Generator) appendPeer(b []byte) []byte {
	b = append(b, " from "...)
	b = appendIPv4(b, 0xC0000200|uint32(g.rng.IntN(256)))
	b = append(b, " port "...)
	return appendInt(b, 1024+g.rng.IntN(64000))
}

// appendUptime writes the kernel's clock; the hosts were booted ten days before
// the shop opened.
func (g *Generator) appendUptime(b []byte, at int64) []byte {
	up := at - g.start + 10*24*int64(time.Hour)
	b = strconv.AppendInt(append(b, '['), up/1e9, 10)
	return append(appendPadded(append(b, '.'), uint64(up/1e3%1e6), 6), "] "...)
}

// outage logs why an incident begins: the database's host runs out of memory.
func (g *Generator) outage(at int64) {
	if !g.wants(syslog) {
		return
	}
	host := g.first[syslog] // db-1
	pid := 2000 + g.rng.IntN(20000)
	b, buf := g.syslogLine(at, host, "kernel", 0)
	b = g.appendUptime(b, at)
	b = append(b, "Out of memory: Killed process "...)
	b = appendInt(b, pid)
	b = append(b, " (postgres) total-vm:8417236kB, anon-rss:7904112kB, file-rss:0kB, shmem-rss:12288kB, UID:113 oom_score_adj:0"...)
	g.end(b, buf, at, host)

	t := at + int64(120*time.Millisecond)
	b, buf = g.syslogLine(t, host, "systemd", 1)
	g.end(append(b, "postgresql@16-payments.service: A process of this unit has been killed by the OOM killer."...), buf, t, host)
	t += int64(800 * time.Millisecond)
	b, buf = g.syslogLine(t, host, "systemd", 1)
	g.end(append(b, "postgresql@16-payments.service: Failed with result 'oom-kill'."...), buf, t, host)
	// It comes back as the recovery begins.
	t = at + g.incident.lasts*2/3
	b, buf = g.syslogLine(t, host, "systemd", 1)
	g.end(append(b, "Started postgresql@16-payments.service - PostgreSQL Cluster 16-payments."...), buf, t, host)
}
