public class FirstClass { public static void main(String[] args) { System.out.println(\"This is Java file 1!\"); }}
