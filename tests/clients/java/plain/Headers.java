package plain;

import static plain.Support.bytes;
import static plain.Support.check;
import static plain.Support.own;
import static plain.Support.same;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.LongString;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Properties and header tables, there and back. */
final class Headers {
    private static final Date TIME = new Date(1577934245000L);

    private Headers() {}

    static void headers(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = own(channel);
        var table = table();
        var properties = new BasicProperties.Builder()
                .contentType("text/plain").contentEncoding("utf-8").deliveryMode(2).priority(3)
                .correlationId("c").replyTo("r").messageId("m").timestamp(TIME).type("t")
                .userId(Place.USER).appId("a").clusterId("k");
        channel.basicPublish("", queue, properties.headers(table).build(), bytes("x"));
        var back = Support.take(channel, queue).getProps();
        var raw = (byte[]) back.getHeaders().remove("bytes");
        check(Arrays.equals(raw, (byte[]) table.remove("bytes")), Arrays.toString(raw));
        same(back.builder().headers(null).build().toString(),
                properties.headers(null).build().toString());
        same(plain(back.getHeaders()), table);
    }

    private static Map<String, Object> table() {
        var table = new HashMap<String, Object>();
        table.put("text", "grün");
        table.put("bytes", new byte[] {0, -1});
        table.put("yes", true);
        table.put("no", false);
        table.put("byte", (byte) -3);
        table.put("short", (short) -300);
        table.put("int", -7);
        table.put("long", 1L << 60);
        table.put("float", 0.5f);
        table.put("double", 2.5);
        table.put("decimal", new BigDecimal("3.14"));
        table.put("none", null);
        table.put("time", TIME);
        table.put("list", Arrays.asList(1, "two", null, List.of(3)));
        table.put("table", Map.of("inner", Map.of("deep", 1)));
        return table;
    }

    /** A value as it was sent: the library makes every string that it reads a LongString. */
    static Object plain(Object value) {
        if (value instanceof LongString text) {
            return text.toString();
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Headers::plain).collect(Collectors.toList());
        }
        if (value instanceof Map<?, ?> map) {
            var same = new HashMap<Object, Object>();
            map.forEach((key, each) -> same.put(key, plain(each)));
            return same;
        }
        return value;
    }
}
