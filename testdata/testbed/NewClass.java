public class NewClass { public static void main(String[] args) { System.out.println(\"This is a new Java file!\"); }}
