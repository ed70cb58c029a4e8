/* A bare forwarder of bytes: what being there at all costs, with nothing looked at.
 *
 *     cc -O2 -o forwarder forwarder.c && ./forwarder LISTEN_PORT SERVER_PORT
 *
 * One thread, epoll, TCP_NODELAY on both sides. The benchmark's clients send no more than a socket's buffer holds, so a
 * write that would block is waited for. Loopback only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 4096

static int peer_of[MOST]; /* the other side of each socket; 0: none */
static char buffer[1 << 16];

static struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(int epoll, int sock) {
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = sock};
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &event);
}

static void end(int sock) {
    int peer = peer_of[sock];
    peer_of[sock] = 0;
    close(sock);
    if (peer) {
        peer_of[peer] = 0;
        close(peer);
    }
}

/* Returns 0 where the connection is over. */
static int forward(int sock) {
    ssize_t got = recv(sock, buffer, sizeof buffer, 0);
    if (got <= 0) return got < 0 && errno == EINTR;
    for (ssize_t sent = 0; sent < got;) {
        ssize_t now = send(peer_of[sock], buffer + sent, (size_t)(got - sent), MSG_NOSIGNAL);
        if (now < 0 && errno != EINTR) return 0;
        if (now > 0) sent += now;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s LISTEN_PORT SERVER_PORT\n", argv[0]);
        return 2;
    }
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in here = loopback(argv[1]), there = loopback(argv[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) {
        perror("listen");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int sock = events[i].data.fd;
            if (sock == listener) {
                int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
                if (client < 0 || server < 0 || client >= MOST || server >= MOST ||
                    connect(server, (struct sockaddr *)&there, sizeof there)) {
                    close(client);
                    close(server);
                    continue;
                }
                peer_of[client] = server;
                peer_of[server] = client;
                watch(epoll, client);
                watch(epoll, server);
            } else if (peer_of[sock] && !forward(sock)) {
                end(sock);
            }
        }
    }
}
